// SPDX-License-Identifier: Apache-2.0
import {
  type AnyCase,
  cards,
  empty,
  Library,
  ops,
  parseSchema,
  Tensor,
  type TensorSpec,
  torch,
  use,
} from '@vllm-ops/core'
import { beforeAll, describe, expect, it } from 'vitest'
import reference from '../src/index'

beforeAll(() => {
  use(reference, { strict: true })
})

function fake({ shape, dtype }: TensorSpec): Tensor {
  return empty(shape, { dtype, device: 'meta' })
}

/** The arguments of a case on the device that has no memory. */
function fakes(names: readonly string[], { args }: AnyCase) {
  return names.map((name) => {
    const value = args[name] ?? null
    if (typeof value !== 'object' || value === null) return value
    return 'dtype' in value ? fake(value) : value.map(fake)
  })
}

describe('on the meta device', () => {
  it.each(cards.filter(({ reference }) => reference))(
    '$schema takes every case and leaves shapes alone',
    (card) => {
      const { name, arguments: args } = parseSchema(card.schema)
      for (const testCase of card.cases('bfloat16')) {
        const values = fakes(
          args.map((argument) => argument.name),
          testCase,
        )
        const shapes = values.flat().map((value) => (value instanceof Tensor ? value.shape : undefined))
        torch.vllm_ops?.[name]?.(...values)
        expect(values.flat().map((value) => (value instanceof Tensor ? value.shape : undefined))).toEqual(
          shapes,
        )
      }
    },
  )

  it('ggml_dequantize tells the shape and the dtype of its result', () => {
    const W = empty([3 * 2 * 20], { dtype: 'uint8', device: 'meta' })
    const result = ops.ggml_dequantize(W, 3, 3, 64, 'bfloat16')
    expect([result.shape, result.dtype, result.device]).toEqual([[3, 64], 'bfloat16', 'meta'])
    expect(ops.ggml_dequantize(W, 3, 3, 64, null).dtype).toBe('float16')
  })

  it('refuses what it refuses elsewhere', () => {
    const x = empty([3, 16], { device: 'meta' })
    const wrong = empty([3, 9], { device: 'meta' })
    expect(() => ops.silu_and_mul(wrong, x)).toThrow(
      /vllm_ops::silu_and_mul: argument 'out': expected shape \[3, 8\]/,
    )
  })

  it('refuses tensors of two devices', () => {
    const x = empty([3, 16], { device: 'meta' })
    expect(() => ops.silu_and_mul(empty([3, 8]), x)).toThrow(
      /argument 'input': expected a tensor on cpu, received meta/,
    )
  })
})

describe('with a kernel of a backend', () => {
  it('leaves its tensors to that', () => {
    using library = new Library('vllm_ops', 'IMPL')
    let calls = 0
    library.impl(
      'silu_and_mul',
      () => {
        calls++
        return null
      },
      'CPU',
    )
    ops.silu_and_mul(empty([3, 8]), empty([3, 16]))
    expect(calls).toBe(1)
    ops.silu_and_mul(empty([3, 8], { device: 'meta' }), empty([3, 16], { device: 'meta' }))
    expect(calls).toBe(1)
  })
})
