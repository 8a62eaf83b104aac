// SPDX-License-Identifier: Apache-2.0
//
// Workers that load the package, use it and end, each as often as it is told to.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { ones, torch } from '@vllm-ops/core'
import { childPath, taskOf } from '../child'
import { type Cycles, workerEnds } from '../envs'

const { workers, cycles } = taskOf<{ workers: number; cycles: number }>()
const ends = Object.entries(workerEnds)
const wrong: string[] = []
let done = 0

async function cycle(index: number): Promise<void> {
  const [end, expected] = ends[index % ends.length]!
  const worker = new Worker(childPath('ending'), { workerData: end, execArgv: [], stderr: true })
  let error: unknown
  worker.on('error', (thrown) => {
    error = thrown
  })
  if (end === 'terminated') {
    const started = once(worker, 'message')
    await started
    worker.terminate()
  }
  // Not by `once`, which rejects on the errors that are meant.
  const code = await new Promise<number>((done) => worker.once('exit', done))
  // Errors that were meant reach the parent too.
  const meant = end === 'throws' || end === 'rejects'
  if (code !== expected || (error !== undefined) !== meant)
    wrong.push(`a worker that ${end}: exit code ${code}, expected ${expected}; error ${error}`)
  done++
}

await Promise.all(
  Array.from({ length: workers }, async (_, worker) => {
    for (let i = 0; i < cycles; i++) await cycle(worker + i)
  }),
)
torch.aten.sum(ones([2])).dispose()
const files = new Set(
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('libtorch_cpu'))
    .map((line) => line.split(/\s+/)[4]),
)
const found: Cycles = { cycles: done, wrong: wrong.slice(0, 20), libtorches: files.size }
process.stdout.write(`${JSON.stringify(found)}\n`)
