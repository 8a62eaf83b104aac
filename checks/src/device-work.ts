// SPDX-License-Identifier: Apache-2.0
//
// Work on a device that several threads do at the same time, and that has one result.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { capture, empty, full, ops, scope, torch } from '@vllm-ops/core'
import { childPath } from './child'

const ROUNDS = 50

/** Ops one by one, then a captured graph of them again and again: a number that depends on every call. */
export function workOn(device: string): string {
  const on = { device, dtype: 'bfloat16' } as const
  return scope(() => {
    const x = full([64, 2048], 0.5, on)
    const both = empty([64, 4096], on)
    const weight = full([2048], 1.5, on)
    const step = () => {
      ops.rms_norm(x, x, weight, 1e-5)
      torch.aten.cat!.out!([x, torch.aten.cumsum!(x, 1, { dtype: 'bfloat16' })], 1, { out: both })
      ops.silu_and_mul(x, both)
    }
    for (let i = 0; i < ROUNDS; i++) scope(step)
    using graph = capture(step, { device })
    for (let i = 0; i < ROUNDS; i++) graph.replay()
    return String(torch.aten.sum!(x, { dtype: 'float64' }).item())
  })
}

/** {@link workOn} in a worker thread. */
export async function workIn(device: string): Promise<string> {
  const worker = new Worker(childPath('device-worker'), { workerData: device, execArgv: [] })
  const [sum] = (await once(worker, 'message')) as [string]
  await worker.terminate()
  return sum
}
