// SPDX-License-Identifier: Apache-2.0
//
// Rounds of making tensors, calling ops and freeing them, and what is left of memory afterwards.
import { ones, scope, type Tensor, torch } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { taskOf } from '../child'
import type { Growth, leakModes } from '../leak'

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
