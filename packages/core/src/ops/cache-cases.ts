// SPDX-License-Identifier: Apache-2.0
import type { FloatDType } from './card'
import { apart, filled, input, type Layout, otherDType, type TensorSpec } from './case'
import { packing } from './paged'

/** What a copy may not touch up. */
const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 2 ** -24]

interface CacheShape {
  readonly slots: readonly number[]
  readonly blocks?: number
  readonly heads?: number
  readonly headSize?: number
  readonly blockSize?: number
}

function call(dtype: FloatDType, shape: CacheShape, layouts: { key?: Layout; value?: Layout } = {}) {
  const { slots, blocks = 4, heads = 2, headSize = 64, blockSize = 16 } = shape
  const x = packing(dtype)
  return {
    key: input([slots.length, heads, headSize], dtype, layouts.key),
    value: input([slots.length, heads, headSize], dtype, layouts.value),
    key_cache: input([blocks, heads, headSize / x, blockSize, x], dtype),
    value_cache: input([blocks, heads, headSize, blockSize], dtype),
    slot_mapping: filled([slots.length], 'int64', slots),
    kv_cache_dtype: 'auto',
    kv_scale: 1,
  }
}

/** `count` slots of a cache in an order that jumps between its blocks and repeats none. */
function scattered(count: number, slots: number): number[] {
  // 7 has no factor in common with a number of slots that is no multiple of it.
  return Array.from({ length: count }, (_, i) => (i * 7 + 3) % slots)
}

/** Tokens of two heads of 64 elements, `pitch` elements apart. */
function rowsOf(pitch: number): Layout {
  return { strides: [pitch, 64, 1] }
}

/** Calls of `reshape_and_cache` that must work. */
export function* cacheCases(dtype: FloatDType) {
  for (const headSize of [packing(dtype), 3 * packing(dtype), 64, 80, 96, 112, 120, 128, 192, 256])
    yield { name: `heads of ${headSize}`, args: call(dtype, { slots: scattered(5, 64), headSize }) }
  for (const blockSize of [1, 3, 8, 16, 32])
    yield {
      name: `blocks of ${blockSize}`,
      args: call(dtype, { slots: scattered(4, 4 * blockSize), blockSize }),
    }
  for (const heads of [1, 3, 8])
    yield { name: `${heads} heads`, args: call(dtype, { slots: scattered(5, 64), heads }) }
  yield { name: 'no tokens', args: call(dtype, { slots: [] }) }
  yield { name: 'one token, the first slot', args: call(dtype, { slots: [0] }) }
  yield { name: 'one token, the last slot', args: call(dtype, { slots: [63] }) }
  yield { name: 'skipped tokens', args: call(dtype, { slots: [5, -1, 17, -1, -9, 63, -(2 ** 40)] }) }
  yield { name: 'skipped tokens only', args: call(dtype, { slots: [-1, -1] }) }
  yield { name: 'every slot', args: call(dtype, { slots: scattered(64, 64) }) }
  yield {
    name: '1025 tokens',
    args: call(dtype, { slots: scattered(1025, 1040), blocks: 65, heads: 3 }),
  }
  yield {
    name: 'parts of a fused projection',
    args: call(dtype, { slots: scattered(5, 64) }, { key: rowsOf(512), value: rowsOf(512) }),
  }
  yield {
    name: 'keys and values at strides of their own, misaligned',
    args: call(
      dtype,
      { slots: scattered(5, 64) },
      { key: { ...rowsOf(129), offset: 1 }, value: { ...rowsOf(131), offset: 3 } },
    ),
  }
  const good = call(dtype, { slots: scattered(5, 64) })
  yield {
    name: 'caches misaligned',
    args: {
      ...good,
      key_cache: { ...good.key_cache, offset: 1 },
      value_cache: { ...good.value_cache, offset: 1 },
    },
  }
  const special = filled([5, 2, 64], dtype, SPECIAL)
  yield { name: 'infinities and NaN', args: { ...good, key: special, value: special } }
  yield {
    name: 'blocks of the caches apart',
    mayRefuse: ['key_cache', 'value_cache'] as const,
    args: {
      ...good,
      key_cache: { ...good.key_cache, ...apart(good.key_cache.shape, 24) },
      value_cache: { ...good.value_cache, ...apart(good.value_cache.shape, 24) },
    },
  }
}

/** Calls of `reshape_and_cache` that must be refused. */
export function* cacheRejects(dtype: FloatDType) {
  const good = call(dtype, { slots: [0, 17, 63] })
  const slots = (...values: number[]) => ({
    ...good,
    slot_mapping: filled([values.length], 'int64', values),
  })
  yield {
    name: 'a slot behind the cache',
    wrongValues: true as const,
    argument: 'slot_mapping' as const,
    args: slots(0, 64, 1),
  }
  yield {
    name: 'a slot far behind the cache',
    wrongValues: true as const,
    argument: 'slot_mapping' as const,
    args: slots(0, 2 ** 50, 1),
  }
  yield {
    name: 'more slots than tokens',
    argument: ['slot_mapping', 'key'] as const,
    args: slots(0, 1, 2, 3),
  }
  yield {
    name: 'slots of 32 bits',
    argument: 'slot_mapping' as const,
    args: { ...good, slot_mapping: filled([3], 'int32', [1]) },
  }
  yield {
    name: 'slots in two dimensions',
    argument: 'slot_mapping' as const,
    args: { ...good, slot_mapping: filled([1, 3], 'int64', [1]) },
  }
  yield {
    name: 'float64 keys',
    argument: 'key' as const,
    args: { ...good, key: input([3, 2, 64], 'float64') },
  }
  yield {
    name: 'values of another dtype',
    argument: 'value' as const,
    args: { ...good, value: input([3, 2, 64], otherDType(dtype)) },
  }
  yield {
    name: 'keys of two dimensions',
    argument: 'key' as const,
    args: { ...good, key: input([3, 128], dtype) },
  }
  yield {
    name: 'fewer values than keys',
    argument: 'value' as const,
    args: { ...good, value: input([2, 2, 64], dtype) },
  }
  yield {
    name: 'smaller heads',
    argument: ['key', 'key_cache'] as const,
    args: { ...good, key: input([3, 2, 32], dtype), value: input([3, 2, 32], dtype) },
  }
  yield {
    name: 'more heads',
    argument: ['key', 'key_cache'] as const,
    args: { ...good, key: input([3, 3, 64], dtype), value: input([3, 3, 64], dtype) },
  }
  const x = packing(dtype)
  const keyCache = (...shape: number[]): TensorSpec => input(shape, dtype)
  yield {
    name: 'a key cache of four dimensions',
    argument: 'key_cache' as const,
    args: { ...good, key_cache: keyCache(4, 2, 64, 16) },
  }
  yield {
    name: 'a key cache packed otherwise',
    argument: ['key_cache', 'value_cache'] as const,
    args: { ...good, key_cache: keyCache(4, 2, 64 / (2 * x), 16, 2 * x) },
  }
  yield {
    name: 'fewer value blocks',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input([3, 2, 64, 16], dtype) },
  }
  yield {
    name: 'smaller value blocks',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input([4, 2, 64, 8], dtype) },
  }
  yield {
    name: 'a value cache of another dtype',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input([4, 2, 64, 16], otherDType(dtype)) },
  }
  yield {
    name: 'an unknown cache dtype',
    argument: 'kv_cache_dtype' as const,
    args: { ...good, kv_cache_dtype: 'int3' },
  }
}

function flashCall(dtype: FloatDType, shape: CacheShape, layouts: { key?: Layout; value?: Layout } = {}) {
  const { slots, blocks = 4, heads = 2, headSize = 64, blockSize = 16 } = shape
  return {
    key: input([slots.length, heads, headSize], dtype, layouts.key),
    value: input([slots.length, heads, headSize], dtype, layouts.value),
    key_cache: input([blocks, blockSize, heads, headSize], dtype),
    value_cache: input([blocks, blockSize, heads, headSize], dtype),
    slot_mapping: filled([slots.length], 'int64', slots),
    kv_cache_dtype: 'auto',
  }
}

/** Calls of `reshape_and_cache_flash` that must work. */
export function* flashCases(dtype: FloatDType) {
  const call = flashCall
  for (const headSize of [1, 7, 64, 80, 120, 128, 256])
    yield { name: `heads of ${headSize}`, args: call(dtype, { slots: scattered(5, 64), headSize }) }
  for (const blockSize of [1, 3, 16, 256])
    yield {
      name: `blocks of ${blockSize}`,
      args: call(dtype, { slots: scattered(4, 4 * blockSize), blockSize }),
    }
  for (const heads of [1, 3, 8])
    yield { name: `${heads} heads`, args: call(dtype, { slots: scattered(5, 64), heads }) }
  yield { name: 'no tokens', args: call(dtype, { slots: [] }) }
  yield { name: 'skipped tokens', args: call(dtype, { slots: [5, -1, 17, -1, -9, 63, -(2 ** 40)] }) }
  yield { name: 'every slot', args: call(dtype, { slots: scattered(64, 64) }) }
  yield { name: '1025 tokens', args: call(dtype, { slots: scattered(1025, 1040), blocks: 65, heads: 3 }) }
  yield {
    name: 'parts of a fused projection',
    args: call(dtype, { slots: scattered(5, 64) }, { key: rowsOf(512), value: rowsOf(512) }),
  }
  yield {
    name: 'keys and values at strides of their own, misaligned',
    args: call(
      dtype,
      { slots: scattered(5, 64) },
      { key: { ...rowsOf(129), offset: 1 }, value: { ...rowsOf(131), offset: 3 } },
    ),
  }
  const good = call(dtype, { slots: scattered(5, 64) })
  const caches = (layout: Layout) => ({
    ...good,
    key_cache: { ...good.key_cache, ...layout },
    value_cache: { ...good.value_cache, ...layout },
  })
  yield { name: 'caches misaligned', args: caches({ offset: 1 }) }
  yield { name: 'halves of one cache', args: caches(apart(good.key_cache.shape, 16 * 128)) }
  yield { name: 'tokens of the caches apart', args: caches({ strides: [16 * 131, 131, 64, 1] }) }
  yield {
    name: 'heads of the caches apart',
    mayRefuse: ['key_cache', 'value_cache'] as const,
    args: caches({ strides: [16 * 144, 144, 72, 1] }),
  }
  const special = filled([5, 2, 64], dtype, SPECIAL)
  yield { name: 'infinities and NaN', args: { ...good, key: special, value: special } }
}

/** Calls of `reshape_and_cache_flash` that must be refused. */
export function* flashRejects(dtype: FloatDType) {
  const good = flashCall(dtype, { slots: [0, 17, 63] })
  const slots = (...values: number[]) => ({
    ...good,
    slot_mapping: filled([values.length], 'int64', values),
  })
  yield {
    name: 'a slot behind the cache',
    wrongValues: true as const,
    argument: 'slot_mapping' as const,
    args: slots(0, 64, 1),
  }
  yield {
    name: 'a slot far behind the cache',
    wrongValues: true as const,
    argument: 'slot_mapping' as const,
    args: slots(0, 2 ** 50, 1),
  }
  yield {
    name: 'more slots than tokens',
    argument: ['slot_mapping', 'key'] as const,
    args: slots(0, 1, 2, 3),
  }
  yield {
    name: 'slots of 32 bits',
    argument: 'slot_mapping' as const,
    args: { ...good, slot_mapping: filled([3], 'int32', [1]) },
  }
  yield {
    name: 'float64 keys',
    argument: 'key' as const,
    args: { ...good, key: input([3, 2, 64], 'float64') },
  }
  yield {
    name: 'values of another dtype',
    argument: 'value' as const,
    args: { ...good, value: input([3, 2, 64], otherDType(dtype)) },
  }
  yield {
    name: 'keys of two dimensions',
    argument: 'key' as const,
    args: { ...good, key: input([3, 128], dtype) },
  }
  yield {
    name: 'fewer values than keys',
    argument: 'value' as const,
    args: { ...good, value: input([2, 2, 64], dtype) },
  }
  yield {
    name: 'smaller heads in the cache',
    argument: 'key_cache' as const,
    args: { ...good, key_cache: input([4, 16, 2, 32], dtype) },
  }
  yield {
    name: 'a key cache packed for paged attention',
    argument: 'key_cache' as const,
    args: { ...good, key_cache: input([4, 2, 8, 16, 8], dtype) },
  }
  yield {
    name: 'fewer value blocks',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input([3, 16, 2, 64], dtype) },
  }
  yield {
    name: 'a value cache of another dtype',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input([4, 16, 2, 64], otherDType(dtype)) },
  }
  yield {
    name: 'an unknown cache dtype',
    argument: 'kv_cache_dtype' as const,
    args: { ...good, kv_cache_dtype: 'int3' },
  }
}
