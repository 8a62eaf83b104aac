// SPDX-License-Identifier: Apache-2.0
//
// Sends an array over memory of a tensor of its own, which it then disposes.
import { parentPort, workerData } from 'node:worker_threads'
import { full } from '@vllm-ops/core'

const tensor = full([1000], workerData as number)
const array = tensor.data()
parentPort?.postMessage(array, [array.buffer as ArrayBuffer])
tensor.dispose()
