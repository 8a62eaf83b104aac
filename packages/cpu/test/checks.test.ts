// SPDX-License-Identifier: Apache-2.0
//
// Checks that depend on where tensors lie or what index tensors hold; the cards' cases have those of types and shapes.
import {
  ArgumentError,
  arange,
  empty,
  full,
  ops,
  type Tensor,
  tensor,
  torch,
  use,
  zeros,
} from '@vllm-ops/core'
import { beforeAll, describe, expect, it } from 'vitest'
import cpu from '../src/index'

beforeAll(() => {
  use(cpu, { strict: true })
})

/** Expects an ArgumentError for that argument, and that the tensors keep their content. */
function refused(call: () => void, argument: string, received: RegExp, ...tensors: Tensor[]): void {
  const before = tensors.map((t) => t.toArray())
  let thrown: unknown
  try {
    call()
  } catch (error) {
    thrown = error
  }
  expect(thrown).toBeInstanceOf(ArgumentError)
  expect(thrown).toMatchObject({ argument, received: expect.stringMatching(received) })
  expect(tensors.map((t) => t.toArray())).toEqual(before)
}

const floats = (...shape: number[]): Tensor =>
  arange(
    0,
    shape.reduce((a, b) => a * b, 1),
    { dtype: 'float32' },
  ).reshape(shape)

describe('memory', () => {
  it('an output inside the input is refused', () => {
    const x = floats(3, 16)
    refused(() => ops.silu_and_mul(x.narrow(1, 0, 8), x), 'out', /overlapping/, x)
  })

  it('an output beside the input in one allocation works', () => {
    const rows = floats(3, 24)
    const expected = empty([3, 8])
    ops.silu_and_mul(expected, rows.narrow(1, 0, 16).contiguous())
    ops.silu_and_mul(rows.narrow(1, 16, 8), rows.narrow(1, 0, 16))
    expect(rows.narrow(1, 16, 8).contiguous().toArray()).toEqual(expected.toArray())
  })

  it('rms_norm works in place, but not shifted by a row', () => {
    const x = floats(4, 8)
    const expected = empty([4, 8])
    const weight = full([8], 2)
    ops.rms_norm(expected, x, weight, 1e-5)
    const shifted = floats(5, 8)
    refused(
      () => ops.rms_norm(shifted.narrow(0, 1, 4), shifted.narrow(0, 0, 4), weight, 1e-5),
      'out',
      /partly/,
      shifted,
    )
    ops.rms_norm(x, x, weight, 1e-5)
    expect(x.toArray()).toEqual(expected.toArray())
  })

  it('rows of an output that overlap each other are refused', () => {
    const out = zeros([8]).reshape([1, 8])
    refused(
      () => ops.rms_norm(torch.aten!.expand!(out, [3, 8]), floats(3, 8), full([8], 1), 1e-5),
      'out',
      /strides \[0, 1\]/,
      out,
    )
  })

  it('query and key out of one projection may be turned, the same tensor for both may not', () => {
    const [positions, cache] = [arange(0, 3, { dtype: 'int64' }), floats(5, 8)]
    const fused = floats(3, 24)
    const parts = [fused.narrow(1, 0, 16), fused.narrow(1, 16, 8)] as const
    const [query, key] = parts.map((part) => part.contiguous()) as [Tensor, Tensor]
    ops.rotary_embedding(positions, query, key, 8, cache, true)
    ops.rotary_embedding(positions, ...parts, 8, cache, true)
    expect(parts.map((part) => part.contiguous().toArray())).toEqual([query.toArray(), key.toArray()])
    refused(() => ops.rotary_embedding(positions, query, query, 8, cache, true), 'key', /overlapping/, query)
  })
})

describe('paged_attention_v1', () => {
  const out = zeros([2, 2, 4])
  const attend = (changes: { tables?: Tensor; lengths?: Tensor; longest?: number; blocks?: number }) => {
    const keys = floats(3, 1, 1, 4, 4)
    const values = floats(3, 1, 4, 4)
    const tables =
      changes.tables ??
      tensor(
        [
          [0, 1],
          [2, 1],
        ],
        { dtype: 'int32' },
      )
    const lengths = changes.lengths ?? tensor([5, 3], { dtype: 'int32' })
    ops.paged_attention_v1(
      out,
      floats(2, 2, 4),
      keys,
      values,
      1,
      0.5,
      tables,
      lengths,
      changes.blocks ?? 4,
      changes.longest ?? 8,
      null,
      'auto',
      1,
      0,
      0,
      0,
      64,
      0,
    )
  }

  it('reads only the blocks that a sequence has', () => {
    attend({
      tables: tensor(
        [
          [0, 1],
          [2, -1],
        ],
        { dtype: 'int32' },
      ),
    })
    const first = out.toArray()
    attend({
      tables: tensor(
        [
          [0, 1],
          [2, 2 ** 30],
        ],
        { dtype: 'int32' },
      ),
    })
    expect(out.toArray()).toEqual(first)
  })

  it.each([
    [
      'a block behind the cache',
      {
        tables: tensor(
          [
            [0, 3],
            [2, 1],
          ],
          { dtype: 'int32' },
        ),
      },
      'block_tables',
      /3 at position \[0, 1\]/,
    ],
    [
      'a negative block',
      {
        tables: tensor(
          [
            [0, 1],
            [-1, 1],
          ],
          { dtype: 'int32' },
        ),
      },
      'block_tables',
      /-1 at position \[1, 0\]/,
    ],
    [
      'a sequence longer than its table',
      { lengths: tensor([5, 9], { dtype: 'int32' }), longest: 100 },
      'seq_lens',
      /9 at position 1/,
    ],
    ['a sequence longer than max_seq_len', { longest: 4 }, 'seq_lens', /5 at position 0/],
    ['a negative length', { lengths: tensor([5, -1], { dtype: 'int32' }) }, 'seq_lens', /-1 at position 1/],
    ['another block size', { blocks: 8 }, 'block_size', /8/],
  ])('refuses %s', (_, changes, argument, received) => {
    refused(() => attend(changes), argument, received, out)
  })
})
