// SPDX-License-Identifier: Apache-2.0
import type { FloatDType } from './card'
import { type Fill, filled, gapped, input, integers, type Layout, otherDType, type TensorSpec } from './case'

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

/** Arguments of `rotary_embedding`. */
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

/** Calls of `rotary_embedding` that must work. */
export function* rotaryCases(dtype: FloatDType) {
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
      mayRefuse: 'positions' as const,
      args: { ...good, positions: { ...good.positions, strides: [2] } },
    }
  }
}

/** Calls of `rotary_embedding` that must be refused. */
export function* rotaryRejects(dtype: FloatDType) {
  const good = call(dtype, { tokens: [3], headSize: 8 })
  const at = (...values: number[]): TensorSpec => filled([3], 'int64', values)
  yield {
    name: 'positions of 32 bits',
    argument: 'positions' as const,
    args: { ...good, positions: filled([3], 'int32', [1]) },
  }
  yield {
    name: 'a position behind the cache',
    wrongValues: true as const,
    argument: 'positions' as const,
    args: { ...good, positions: at(0, 1, MAX_POSITION) },
  }
  yield {
    name: 'a negative position',
    wrongValues: true as const,
    argument: 'positions' as const,
    args: { ...good, positions: at(0, -1, 2) },
  }
  yield {
    name: 'a position of 2^40',
    wrongValues: true as const,
    argument: 'positions' as const,
    args: { ...good, positions: at(0, 2 ** 40, 2) },
  }
  yield {
    name: 'more positions than tokens',
    argument: ['positions', 'query'] as const,
    args: { ...good, positions: filled([4], 'int64', [1]) },
  }
  yield {
    name: 'fewer positions than tokens',
    argument: ['positions', 'query'] as const,
    args: { ...good, positions: filled([2], 'int64', [1]) },
  }
  yield {
    name: 'float64 queries',
    argument: 'query' as const,
    args: { ...good, query: input([3, 32], 'float64') },
  }
  yield {
    name: 'keys of another dtype',
    argument: 'key' as const,
    args: { ...good, key: input([3, 16], otherDType(dtype)) },
  }
  yield {
    name: 'queries of a part of a head',
    argument: 'query' as const,
    args: { ...good, query: input([3, 33], dtype) },
  }
  yield {
    name: 'keys of a part of a head',
    argument: 'key' as const,
    args: { ...good, key: input([3, 15], dtype) },
  }
  yield {
    name: 'keys of fewer tokens',
    argument: 'key' as const,
    args: { ...good, key: input([2, 16], dtype) },
  }
  yield {
    name: 'queries of one dimension',
    argument: 'query' as const,
    args: { ...good, query: input([96], dtype) },
  }
  yield { name: 'heads of no elements', argument: 'head_size' as const, args: { ...good, head_size: 0 } }
  yield { name: 'heads of -8 elements', argument: 'head_size' as const, args: { ...good, head_size: -8 } }
  const cache = (rows: number, rotDim: number, type: FloatDType | 'float64' = dtype) => ({
    ...good,
    cos_sin_cache: filled([rows, rotDim], type, angles(rotDim)),
  })
  yield {
    name: 'a cache of another dtype',
    argument: 'cos_sin_cache' as const,
    args: cache(MAX_POSITION, 8, otherDType(dtype)),
  }
  yield {
    name: 'a cache wider than a head',
    argument: 'cos_sin_cache' as const,
    args: cache(MAX_POSITION, 10),
  }
  yield { name: 'a cache of odd width', argument: 'cos_sin_cache' as const, args: cache(MAX_POSITION, 7) }
  yield {
    name: 'a cache of one dimension',
    argument: 'cos_sin_cache' as const,
    args: { ...good, cos_sin_cache: input([MAX_POSITION * 8], dtype) },
  }
}

/** What `batched_rotary_embedding` takes beyond the arguments of `rotary_embedding`, for a call of that. */
function batched({ args }: { args: ReturnType<typeof call> }, positions = args.positions) {
  const tokens = args.positions.shape.reduce((count, size) => count * size, 1)
  return {
    ...args,
    positions,
    rot_dim: args.cos_sin_cache.shape.at(-1) ?? 0,
    cos_sin_cache_offsets: filled([tokens], 'int64', [0, 25, 12]),
  }
}

/** Calls of `batched_rotary_embedding` that must work. */
export function* batchedRotaryCases(dtype: FloatDType) {
  for (const single of rotaryCases(dtype))
    yield { ...single, args: batched(single, { ...single.args.positions, fill: integers(0, 12) }) }
  const good = batched({ args: call(dtype, { tokens: [2, 3], headSize: 64 }) })
  yield {
    name: 'negative offsets in the shape of the positions',
    args: {
      ...good,
      positions: filled([2, 3], 'int64', [50, 40, 2 ** 40]),
      cos_sin_cache_offsets: filled([2, 3], 'int64', [-50, -4, 20 - 2 ** 40]),
    },
  }
}

/** Calls of `batched_rotary_embedding` that must be refused. */
export function* batchedRotaryRejects(dtype: FloatDType) {
  for (const single of rotaryRejects(dtype)) {
    const args = batched(single)
    // Without an offset that would bring a wrong position back into the cache.
    yield { ...single, args: { ...args, cos_sin_cache_offsets: filled([3], 'int64', [0]) } }
  }
  const good = batched({ args: call(dtype, { tokens: [3], headSize: 8 }) })
  const sums = [
    ['behind the cache', [0, 30, 1], [0, 7, 0]],
    ['before the cache', [0, 5, 1], [0, -6, 0]],
    ['too large for 64 bits', [0, 2 ** 62, 1], [0, 2 ** 62, 0]],
    ['whose sum would wrap around to a row', [0, -(2 ** 63), 1], [0, -(2 ** 63), 0]],
  ] as const
  for (const [name, positions, offsets] of sums)
    yield {
      name: `positions with offsets ${name}`,
      wrongValues: true as const,
      argument: ['positions', 'cos_sin_cache_offsets'] as const,
      args: {
        ...good,
        positions: filled([3], 'int64', positions),
        cos_sin_cache_offsets: filled([3], 'int64', offsets),
      },
    }
  for (const rot_dim of [6, 0, -8])
    yield { name: `a rot_dim of ${rot_dim}`, argument: 'rot_dim' as const, args: { ...good, rot_dim } }
  const offsets = (name: string, spec: TensorSpec) => ({
    name: `${name} offsets`,
    argument: 'cos_sin_cache_offsets' as const,
    args: { ...good, cos_sin_cache_offsets: spec },
  })
  yield offsets('fewer', filled([2], 'int64', [0]))
  yield offsets('more', filled([4], 'int64', [0]))
  yield offsets('32-bit', filled([3], 'int32', [0]))
}
