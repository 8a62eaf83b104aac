// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { type Aten, defineOp, type FloatDType, type TensorShape } from './card'
import { type Fill, filled, gapped, input, integers, type Layout, otherDType, type TensorSpec } from './case'
import { bytes, product, roundedOnce, wide, width } from './math'

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

interface RotaryShape {
  readonly tokens: readonly number[]
  readonly headSize: number
  readonly rotDim?: number
  readonly heads?: number
  readonly kvHeads?: number
  readonly isNeox?: boolean
  /** Whether heads are a dimension of their own. */
  readonly split?: boolean
}

const MAX_POSITION = 37

/** `[pos, rot_dim]`: cosines, then sines, of angles that no two positions or pairs share. */
function angles(rotDim: number): Fill {
  return (index) => {
    const position = Math.floor(index / rotDim)
    const column = index % rotDim
    const angle = position * 10 ** (-(column % (rotDim / 2)) / rotDim) + 0.1
    return column < rotDim / 2 ? Math.cos(angle) : Math.sin(angle)
  }
}

function call(dtype: FloatDType, shape: RotaryShape, layouts: { query?: Layout; key?: Layout } = {}) {
  const { tokens, headSize, rotDim = headSize, heads = 4, kvHeads = 2, isNeox = true, split = false } = shape
  const states = (count: number) => [...tokens, ...(split ? [count, headSize] : [count * headSize])]
  return {
    positions: filled(tokens, 'int64', integers(0, MAX_POSITION)),
    query: input(states(heads), dtype, layouts.query),
    key: input(states(kvHeads), dtype, layouts.key),
    head_size: headSize,
    cos_sin_cache: filled([MAX_POSITION, rotDim], dtype, angles(rotDim)),
    is_neox: isNeox,
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
    expect.range('positions', positions, 0, (cosSinCache.shape[0] ?? 0) - 1)
  },

  reference(aten, positions, query, key, headSize, cosSinCache, isNeox) {
    const tokens = positions.numel
    const rows = aten('index.Tensor', wide(cosSinCache), [positions.reshape([tokens])]).reshape([
      tokens,
      1,
      width(cosSinCache),
    ])
    const [cos, sin] = aten<[Tensor, Tensor]>('chunk', rows, 2, -1)
    for (const states of [query, key]) {
      const shape = [tokens, headsOf(positions, states, Number(headSize)), Number(headSize)]
      aten('copy_', states, turned(aten, wide(states).reshape(shape), cos, sin, isNeox).reshape(states.shape))
    }
  },

  *cases(dtype) {
    for (const isNeox of [true, false]) {
      const order = isNeox ? 'neox' : 'gpt-j'
      for (const headSize of [2, 6, 18, 64, 80, 96, 112, 128, 192, 256])
        yield { name: `heads of ${headSize}, ${order}`, args: call(dtype, { tokens: [3], headSize, isNeox }) }
      for (const rotDim of [2, 14, 32, 64])
        yield {
          name: `${rotDim} of 80 elements, ${order}`,
          args: call(dtype, { tokens: [3], headSize: 80, rotDim, isNeox }),
        }
      yield { name: `no tokens, ${order}`, args: call(dtype, { tokens: [0], headSize: 64, isNeox }) }
      yield {
        name: `heads apart, ${order}`,
        args: call(dtype, { tokens: [5], headSize: 64, isNeox, split: true }),
      }
      yield {
        name: `batch and sequence, ${order}`,
        args: call(dtype, { tokens: [2, 3], headSize: 64, isNeox }),
      }
      yield {
        name: `batch and sequence, heads apart, ${order}`,
        args: call(dtype, { tokens: [2, 3], headSize: 64, isNeox, split: true }),
      }
      yield {
        name: `nine heads, three for keys, ${order}`,
        args: call(dtype, { tokens: [7], headSize: 64, heads: 9, kvHeads: 3, isNeox }),
      }
      yield {
        name: `one head, ${order}`,
        args: call(dtype, { tokens: [1], headSize: 64, heads: 1, kvHeads: 1, isNeox }),
      }
      yield {
        name: `257 tokens, ${order}`,
        args: call(dtype, { tokens: [257], headSize: 64, heads: 9, kvHeads: 3, isNeox }),
      }
      // A fused projection: rows of query, key and value, of which the op sees the first two.
      yield {
        name: `parts of a fused projection, ${order}`,
        args: call(
          dtype,
          { tokens: [5], headSize: 64, isNeox },
          { query: gapped([5, 256], 256), key: gapped([5, 128], 384) },
        ),
      }
      yield {
        name: `misaligned, at odd strides, ${order}`,
        args: call(
          dtype,
          { tokens: [5], headSize: 64, isNeox },
          { query: { ...gapped([5, 256], 1), offset: 1 }, key: { ...gapped([5, 128], 3), offset: 3 } },
        ),
      }
      const good = call(dtype, { tokens: [5], headSize: 64, isNeox })
      yield {
        name: `positions with gaps, ${order}`,
        mayRefuse: 'positions',
        args: { ...good, positions: { ...good.positions, strides: [2] } },
      }
    }
  },

  *rejects(dtype) {
    const good = call(dtype, { tokens: [3], headSize: 8 })
    const at = (...values: number[]): TensorSpec => filled([3], 'int64', values)
    yield {
      name: 'positions of 32 bits',
      argument: 'positions',
      args: { ...good, positions: filled([3], 'int32', [1]) },
    }
    yield {
      name: 'a position behind the cache',
      argument: 'positions',
      args: { ...good, positions: at(0, 1, MAX_POSITION) },
    }
    yield { name: 'a negative position', argument: 'positions', args: { ...good, positions: at(0, -1, 2) } }
    yield {
      name: 'a position of 2^40',
      argument: 'positions',
      args: { ...good, positions: at(0, 2 ** 40, 2) },
    }
    yield {
      name: 'more positions than tokens',
      argument: ['positions', 'query'],
      args: { ...good, positions: filled([4], 'int64', [1]) },
    }
    yield {
      name: 'fewer positions than tokens',
      argument: ['positions', 'query'],
      args: { ...good, positions: filled([2], 'int64', [1]) },
    }
    yield { name: 'float64 queries', argument: 'query', args: { ...good, query: input([3, 32], 'float64') } }
    yield {
      name: 'keys of another dtype',
      argument: 'key',
      args: { ...good, key: input([3, 16], otherDType(dtype)) },
    }
    yield {
      name: 'queries of a part of a head',
      argument: 'query',
      args: { ...good, query: input([3, 33], dtype) },
    }
    yield { name: 'keys of a part of a head', argument: 'key', args: { ...good, key: input([3, 15], dtype) } }
    yield { name: 'keys of fewer tokens', argument: 'key', args: { ...good, key: input([2, 16], dtype) } }
    yield {
      name: 'queries of one dimension',
      argument: 'query',
      args: { ...good, query: input([96], dtype) },
    }
    yield { name: 'heads of no elements', argument: 'head_size', args: { ...good, head_size: 0 } }
    yield { name: 'heads of -8 elements', argument: 'head_size', args: { ...good, head_size: -8 } }
    const cache = (rows: number, rotDim: number, type: FloatDType | 'float64' = dtype) => ({
      ...good,
      cos_sin_cache: filled([rows, rotDim], type, angles(rotDim)),
    })
    yield {
      name: 'a cache of another dtype',
      argument: 'cos_sin_cache',
      args: cache(MAX_POSITION, 8, otherDType(dtype)),
    }
    yield { name: 'a cache wider than a head', argument: 'cos_sin_cache', args: cache(MAX_POSITION, 10) }
    yield { name: 'a cache of odd width', argument: 'cos_sin_cache', args: cache(MAX_POSITION, 7) }
    yield {
      name: 'a cache of one dimension',
      argument: 'cos_sin_cache',
      args: { ...good, cos_sin_cache: input([MAX_POSITION * 8], dtype) },
    }
  },

  tolerance: roundedOnce({
    ulps: 1,
    absolute: 2 ** -21,
    reason: 'two products and their sum, which may cancel: an ulp of the largest product, |x| < 8',
  }),

  cost: (positions, query, key, _headSize, cosSinCache) => ({
    flops: 3 * (product(query.shape) + product(key.shape)),
    // A row of the cache per token, unless the whole cache is less.
    bytes:
      bytes(positions) +
      2 * bytes(query, key) +
      Math.min(
        bytes(cosSinCache),
        product(positions.shape) * bytes({ dtype: cosSinCache.dtype, shape: [width(cosSinCache)] }),
      ),
  }),
})
