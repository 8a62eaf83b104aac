// SPDX-License-Identifier: Apache-2.0
//
// A worker that computes on one device, whichever others do.
import { parentPort, workerData } from 'node:worker_threads'
import { useFor } from '../backends'
import { workOn } from '../device-work'

const device = workerData as string
useFor(device)
parentPort?.postMessage(workOn(device))
