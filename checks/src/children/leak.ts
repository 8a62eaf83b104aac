// SPDX-License-Identifier: Apache-2.0
//
// Rounds of making tensors, calling ops and freeing them, and what is left of memory afterwards.
import { empty, ones, ops, scope, type Tensor, torch, use, zeros } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import cpu from '@vllm-ops/cpu'
import { taskOf } from '../child'
import type { Growth, leakModes } from '../leak'

use(cpu, { strict: true })
const { mode, count } = taskOf<{ mode: (typeof leakModes)[number]; count: number }>()
const add = torch.aten.add.Tensor!
const mul_ = torch.aten.mul_.Scalar!

const rounds: Record<typeof mode, () => void | Promise<void>> = {
  dispose() {
    const x = ones([64])
    const y = add(x, x)
    mul_(y, 2)
    y.dispose()
    x.dispose()
  },
  using() {
    using x = ones([64])
    using y = add(x, x)
    mul_(y, 2)
  },
  scope() {
    scope(() => mul_(add(ones([64]), ones([1])), 2)).dispose()
  },
  async await() {
    await scope(async () => {
      const x: Tensor = ones([64])
      await null
      mul_(add(x, x), 2)
    })
  },
  // Tensors, one that may be missing, lists of them, numbers and a string cross the boundary to a kernel each in its own way.
  arguments() {
    scope(() => {
      const [keys, values] = [zeros([1, 1, 2, 16, 4]), zeros([1, 1, 8, 16])]
      const [tables, lengths] = [zeros([1, 1], { dtype: 'int32' }), ones([1], { dtype: 'int32' })]
      const query = ones([1, 1, 8])
      // biome-ignore format: one argument a line would be a column of nameless numbers
      ops.paged_attention_v1(
        empty([1, 1, 8]), query, keys, values, 1, 1, tables, lengths, 16, 16, ones([1]), 'auto', 1, 0, 0, 0, 64, 0,
      )
      ops.copy_blocks([keys], [values], zeros([1, 2], { dtype: 'int64' }))
    })
  },
}

async function run(rounds: number, round: () => void | Promise<void>): Promise<void> {
  if (mode === 'await') for (let i = 0; i < rounds; i++) await round()
  else for (let i = 0; i < rounds; i++) round()
}

async function settled(): Promise<number> {
  for (let i = 0; i < 4; i++) {
    gc?.()
    await new Promise((done) => setTimeout(done, 10))
  }
  return process.memoryUsage.rss()
}

const first = Math.ceil(count / 10)
await run(first, rounds[mode])
const warm = await settled()
await run(count - first, rounds[mode])
const growth: Growth = { warm, end: await settled(), live: native().liveTensors() }
process.stdout.write(`${JSON.stringify(growth)}\n`)
