// SPDX-License-Identifier: Apache-2.0
//
// Makes tensors in a synchronous loop and forgets them; watches the peak of resident memory.
import { empty, full, memory, VllmOpsError } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { taskOf } from '../child'
import type { Pressure } from '../pressure'

const { bytes, count, limit } = taskOf<{ bytes: number; count: number; limit?: number }>()
empty([1]).dispose()
if (limit) memory.setLimit(limit)
const every = Math.max(1, Math.floor(count / 500))
const before = process.memoryUsage.rss()
let peak = before
let code: string | undefined
try {
  for (let i = 0; i < count; i++) {
    full([bytes / 4], i)
    if (i % every === 0) peak = Math.max(peak, process.memoryUsage.rss())
  }
} catch (error) {
  if (!(error instanceof VllmOpsError)) throw error
  code = error.code
}
peak = Math.max(peak, process.memoryUsage.rss())
// When the loop turns, everything is collected after all.
for (let i = 0; i < 50 && native().liveTensors() > 0; i++) {
  for (let j = 0; j < 200; j++) new ArrayBuffer(2 ** 20)
  await new Promise((done) => setTimeout(done, 1))
}
const found: Pressure = { grown: peak - before, live: native().liveTensors(), ...(code && { code }) }
process.stdout.write(`${JSON.stringify(found)}\n`)
