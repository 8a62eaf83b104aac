// SPDX-License-Identifier: Apache-2.0
import { empty, memory, ones, scope, torch, zeros } from '@vllm-ops/core'
import { afterEach, describe, expect, it } from 'vitest'
import { resultOf } from './child'

afterEach(() => memory.track(false))

describe('memory.stats', () => {
  it('counts what tensors own on the CPU, each block once', () => {
    const before = memory.stats()
    const x = empty([1000])
    const view = x.view([10, 100])
    const during = memory.stats('cpu')
    expect(during.allocated - before.allocated).toBe(4000)
    expect(during.allocations - before.allocations).toBe(1)
    expect(during.allocationsMade - before.allocationsMade).toBe(1)
    view.dispose()
    x.dispose()
    expect(memory.stats()).toMatchObject({ allocated: before.allocated, allocations: before.allocations })
  })

  it('remembers the most, until it is told to start again', () => {
    memory.resetPeak()
    const start = memory.stats().allocated
    scope(() => {
      empty([5000])
      empty([5000])
    })
    expect(memory.stats().allocatedPeak).toBe(start + 40_000)
    memory.resetPeak()
    expect(memory.stats().allocatedPeak).toBe(start)
  })

  it('refuses a device that is none', () => {
    expect(() => memory.stats('nowhere')).toThrow(expect.objectContaining({ code: 'E_NO_DEVICE' }))
  })
})

describe('memory.live', () => {
  it('lists live tensors, the largest first, with where they were made', () => {
    scope(() => {
      memory.track(true)
      zeros([3, 5000])
      const small = ones([2], { dtype: 'int64' })
      const made = memory.live().filter((tensor) => tensor.madeAt !== undefined)
      expect(made).toMatchObject([
        { dtype: 'float32', shape: [3, 5000], device: 'cpu' },
        { dtype: 'int64', shape: [2] },
      ])
      // The first frame is the caller's, not one of the package.
      for (const { madeAt } of made) expect(madeAt?.split('\n')[0]).toContain('memory-stats.test.ts')
      small.dispose()
      expect(memory.live().filter((tensor) => tensor.madeAt !== undefined)).toHaveLength(1)
      memory.track(false)
      expect(memory.live().filter((tensor) => tensor.madeAt !== undefined)).toHaveLength(0)
      expect(memory.live()[0]).toMatchObject({ shape: [3, 5000], madeAt: undefined })
    })
  })

  it('leaves out what has no sizes', () => {
    scope(() => {
      const before = memory.live().length
      torch.aten._nested_tensor_from_tensor_list!([ones([1]), ones([2])])
      expect(memory.live().length).toBeLessThanOrEqual(before + 2)
    })
  })

  it('is on from the start with VLLM_OPS_DEBUG_TENSORS=1, and holds no collected tensor', async () => {
    const { first, count } = await resultOf<{ first: string; count: number }>(
      `process.env.VLLM_OPS_DEBUG_TENSORS = '1'
       const { memory, ones } = await import('@vllm-ops/core')
       function forgetful() { return ones([7]) }
       const kept = forgetful()
       for (let i = 0; i < 5000; i++) ones([1])
       gc()
       const live = memory.live()
       console.log(JSON.stringify({ first: live[0].madeAt, count: live.length }))`,
      { args: ['--expose-gc'] },
    )
    expect(first).toMatch(/^forgetful /)
    // The last few small ones are held (src/tensor.ts).
    expect(count).toBeLessThan(100)
  })
})
