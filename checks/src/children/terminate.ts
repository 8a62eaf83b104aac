// SPDX-License-Identifier: Apache-2.0
//
// Starts workers that call ops without end and ends each at a random moment.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { ones, torch } from '@vllm-ops/core'
import { childPath, taskOf } from '../child'
import { randomFrom } from '../random'
import { busyBodies, type Terminations } from '../terminate'

const { first, count, seed, parallel } = taskOf<{
  first: number
  count: number
  seed: number
  parallel: number
}>()
let ended = 0

async function one(index: number): Promise<void> {
  const random = randomFrom(seed * 1_000_003 + index)
  const body = busyBodies[index % busyBodies.length]
  const worker = new Worker(childPath('busy-worker'), { workerData: body, execArgv: [] })
  worker.on('error', (error) => {
    process.stderr.write(`${body}: ${error.stack}\n`)
    process.exitCode = 3
  })
  // Some are ended while they still load libtorch.
  const started = random() < 0.9
  if (started) await once(worker, 'message')
  await new Promise((done) => setTimeout(done, random() * 40))
  await worker.terminate()
  ended++
}

const waiting = Array.from({ length: count }, (_, i) => first + i)
await Promise.all(
  Array.from({ length: parallel }, async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await one(next)
  }),
)
const found: Terminations = { ended, sum: Number(torch.aten.sum(ones([4])).item()) }
process.stdout.write(`${JSON.stringify(found)}\n`)
