// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { type Aten, type Cost, defineOp, type TensorShape } from './card'
import type { Expect } from './expect'
import { bytes, product, roundedOnce, wide, width } from './math'
import { batchedRotaryCases, batchedRotaryRejects, rotaryCases, rotaryRejects } from './rotary-cases'

/** The heads of `states`, which holds `tokens` of them: [..., heads, head_size] or [..., heads * head_size]. */
function headsOf(positions: TensorShape, states: TensorShape, headSize: number): number {
  return states.shape.length === positions.shape.length + 2
    ? (states.shape.at(-2) ?? 1)
    : width(states) / headSize
}

/** `states` [tokens, heads, head_size] turned by the angles whose cosines and sines are [tokens, 1, rot_dim / 2]. */
function turned(aten: Aten, states: Tensor, cos: Tensor, sin: Tensor, isNeox: boolean): Tensor {
  const half = width(cos)
  const rotated = aten('narrow', states, -1, 0, 2 * half)
  const rest = aten('slice.Tensor', states, -1, 2 * half)
  const x = isNeox ? aten('narrow', rotated, -1, 0, half) : aten('slice.Tensor', rotated, -1, 0, null, 2)
  const y = isNeox ? aten('narrow', rotated, -1, half, half) : aten('slice.Tensor', rotated, -1, 1, null, 2)
  const newX = aten('sub.Tensor', aten('mul.Tensor', x, cos), aten('mul.Tensor', y, sin))
  const newY = aten('add.Tensor', aten('mul.Tensor', y, cos), aten('mul.Tensor', x, sin))
  const pairs = isNeox
    ? aten('cat', [newX, newY], -1)
    : aten('stack', [newX, newY], -1).reshape(rotated.shape)
  return aten('cat', [pairs, rest], -1)
}

/** What both ops demand of their arguments, but for the values of the positions. */
function checkRotary(
  expect: Expect,
  positions: Tensor,
  query: Tensor,
  key: Tensor,
  headSize: number | bigint,
  cosSinCache: Tensor,
): void {
  const size = Number(headSize)
  expect.that('head_size', headSize, size > 0, 'a positive number')
  expect.dtype('positions', positions, 'int64')
  expect.rank('positions', positions, 1, 2)
  expect.floating('query', query)
  const tokens = positions.shape
  for (const [name, states] of [
    ['query', query],
    ['key', key],
  ] as const) {
    expect.dtype(name, states, query.dtype)
    expect.rank(name, states, tokens.length + 1, tokens.length + 2)
    const same = tokens.every((count, i) => states.shape[i] === count)
    expect.that(
      name,
      states,
      same,
      `the tokens of 'positions', [${tokens.join(', ')}], in the first dimensions`,
    )
    const heads = states.ndim === tokens.length + 2 ? width(states) === size : width(states) % size === 0
    expect.that(name, states, heads, `heads of ${size} elements`)
  }
  expect.dtype('cos_sin_cache', cosSinCache, query.dtype)
  expect.rank('cos_sin_cache', cosSinCache, 2)
  const rotDim = width(cosSinCache)
  expect.that(
    'cos_sin_cache',
    cosSinCache,
    rotDim % 2 === 0 && rotDim <= size,
    `an even width of at most ${size}`,
  )
}

/** Turns the heads of `query` and `key` in place, those of each token by the row of `cosSinCache` that `rows` tells. */
function rotate(
  aten: Aten,
  rows: Tensor,
  states: readonly Tensor[],
  headSize: number | bigint,
  cosSinCache: Tensor,
  isNeox: boolean,
): void {
  const size = Number(headSize)
  const tokens = rows.numel
  const angles = aten('index.Tensor', wide(cosSinCache), [rows.reshape([tokens])])
  const [cos, sin] = aten<[Tensor, Tensor]>('chunk', angles.reshape([tokens, 1, width(cosSinCache)]), 2, -1)
  for (const heads of states) {
    const shape = [tokens, headsOf(rows, heads, size), size]
    aten('copy_', heads, turned(aten, wide(heads).reshape(shape), cos, sin, isNeox).reshape(heads.shape))
  }
}

const ROTARY_TOLERANCE = roundedOnce({
  ulps: 1,
  absolute: 2 ** -21,
  reason: 'two products and their sum, which may cancel: an ulp of the largest product, |x| < 8',
})

function costOf(positions: TensorShape, query: TensorShape, key: TensorShape, cache: TensorShape): Cost {
  // A row of the cache per token, unless the whole cache is less.
  const rows = product(positions.shape) * bytes({ dtype: cache.dtype, shape: [width(cache)] })
  return {
    flops: 3 * (product(query.shape) + product(key.shape)),
    bytes: bytes(positions) + 2 * bytes(query, key) + Math.min(bytes(cache), rows),
  }
}

/**
 * Rotary position embedding, in place on `query` and `key` (Su et al., "RoFormer", 2021); vLLM's `rotary_embedding`. Each pair
 * (x, y) of a head becomes `(x cos - y sin, y cos + x sin)` with the cosine and sine of its token's position. Pair i is
 * (i, i + rot_dim / 2) where `is_neox`, else (2i, 2i + 1), GPT-J's order. Elements from `rot_dim` on stay.
 *
 * - `positions` [tokens] or [batch, sequence]: int64, each a row of `cos_sin_cache`.
 * - `query` [..., heads * head_size] or [..., heads, head_size] behind the dimensions of `positions`; `key` likewise with its own number
 *   of heads. float32, float16 or bfloat16; tokens at any one stride, so parts of a fused projection work.
 * - `cos_sin_cache` [max_position, rot_dim], of the same dtype: rot_dim / 2 cosines, then as many sines. `rot_dim` is even and at most
 *   `head_size`.
 */
export const rotary_embedding = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'rotary_embedding(Tensor positions, Tensor(a0!) query, Tensor(a1!) key, int head_size, Tensor cos_sin_cache, bool is_neox) -> ()',

  check(expect, positions, query, key, headSize, cosSinCache) {
    checkRotary(expect, positions, query, key, headSize, cosSinCache)
    expect.range('positions', positions, 0, (cosSinCache.shape[0] ?? 0) - 1)
  },

  reference(aten, positions, query, key, headSize, cosSinCache, isNeox) {
    rotate(aten, positions, [query, key], headSize, cosSinCache, isNeox)
  },

  cases: rotaryCases,

  rejects: rotaryRejects,

  tolerance: ROTARY_TOLERANCE,

  cost: (positions, query, key, _headSize, cosSinCache) => costOf(positions, query, key, cosSinCache),
})

/**
 * {@link rotary_embedding} for batches whose sequences have contexts scaled by factors of their own: one cache holds the rows of every
 * factor, and a token's row is its position plus `cos_sin_cache_offsets[token]`; vLLM's `batched_rotary_embedding`.
 *
 * - `positions`, `query`, `key`, `head_size`, `cos_sin_cache` and `is_neox` as in {@link rotary_embedding}; positions and offsets may be
 *   negative as long as their sum is a row of the cache.
 * - `rot_dim`: the width of `cos_sin_cache`.
 * - `cos_sin_cache_offsets`: int64, one for each token, flattened or in the shape of `positions`.
 */
export const batched_rotary_embedding = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'batched_rotary_embedding(Tensor positions, Tensor(a0!) query, Tensor(a1!) key, int head_size, Tensor cos_sin_cache, bool is_neox, int rot_dim, Tensor cos_sin_cache_offsets) -> ()',

  check(expect, positions, query, key, headSize, cosSinCache, _isNeox, rotDim, offsets) {
    checkRotary(expect, positions, query, key, headSize, cosSinCache)
    expect.that('rot_dim', rotDim, Number(rotDim) === width(cosSinCache), "the width of 'cos_sin_cache'")
    expect.dtype('cos_sin_cache_offsets', offsets, 'int64')
    expect.rank('cos_sin_cache_offsets', offsets, 1, 2)
    const same = offsets.numel === positions.numel
    expect.that('cos_sin_cache_offsets', offsets, same, `one number for each of ${positions.numel} tokens`)
    if (positions.device === 'meta') return
    const [rows = [], steps = []] = [positions, offsets].map((tensor) =>
      (tensor.reshape([tensor.numel]).toArray() as (number | bigint)[]).map(BigInt),
    )
    const end = BigInt(cosSinCache.shape[0] ?? 0)
    for (const [i, position] of rows.entries()) {
      const row = position + (steps[i] ?? 0n)
      expect.that(
        'positions',
        row,
        row >= 0n && row < end,
        `with their offsets, values from 0 to ${end - 1n}`,
      )
    }
  },

  reference(aten, positions, query, key, headSize, cosSinCache, isNeox, _rotDim, offsets) {
    const rows = aten('add.Tensor', positions, offsets.reshape(positions.shape))
    rotate(aten, rows, [query, key], headSize, cosSinCache, isNeox)
  },

  cases: batchedRotaryCases,

  rejects: batchedRotaryRejects,

  tolerance: ROTARY_TOLERANCE,

  cost(positions, query, key, _headSize, cosSinCache, _isNeox, _rotDim, offsets) {
    const { flops, bytes: rest } = costOf(positions, query, key, cosSinCache)
    return { flops, bytes: rest + bytes(offsets) }
  },
})
