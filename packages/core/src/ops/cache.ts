// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { type Aten, defineOp, type FloatDType } from './card'
import { apart, filled, input, type Layout, otherDType, type TensorSpec } from './case'
import { bytes } from './math'
import { checkCaches, packing } from './paged'

const COPY = { ulps: 0, absolute: 0, reason: 'a copy' }

/** What a copy may not touch up. */
const SPECIAL = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, -0, 2 ** -24]

/** `cache` [slots, …] with the row `slots[i]` replaced by `rows[i]`; a negative slot replaces none. */
function withRows(aten: Aten, cache: Tensor, slots: Tensor, rows: Tensor): Tensor {
  const count = cache.shape[0] ?? 0
  // Rows to skip go to one row more, which is cut off again: neither a loop nor a look at the device's memory.
  const spare = aten('constant_pad_nd', cache, [...cache.shape.slice(1).flatMap(() => [0, 0]), 0, 1])
  const target = aten('masked_fill.Scalar', slots, aten('lt.Scalar', slots, 0), count)
  return aten('narrow', aten('index_copy', spare, 0, target, rows), 0, 0, count)
}

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

/**
 * Stores the keys and values of new tokens in a paged cache (Kwon et al., "Efficient Memory Management for Large Language Model
 * Serving with PagedAttention", 2023); vLLM's `reshape_and_cache`. Token t goes to position `slot % block_size` of block
 * `slot / block_size`, slot being `slot_mapping[t]`; a negative slot is skipped (padding). The rest of the caches stays as it is.
 *
 * - `key`, `value` [tokens, heads, head_size]: float32, float16 or bfloat16; each with any stride between tokens.
 * - `key_cache` [blocks, heads, head_size / x, block_size, x] with x = 16 bytes / size of an element; `value_cache`
 *   [blocks, heads, head_size, block_size]; both of the dtype of `key`.
 * - `slot_mapping` [tokens]: int64, no slot twice.
 * - `kv_cache_dtype` 'auto'; `kv_scale` belongs to quantized caches and changes nothing here.
 */
export const reshape_and_cache = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'reshape_and_cache(Tensor key, Tensor value, Tensor(a0!) key_cache, Tensor(a1!) value_cache, Tensor slot_mapping, str kv_cache_dtype, float kv_scale) -> ()',

  check(expect, key, value, keyCache, valueCache, slotMapping, kvCacheDType) {
    expect.rank('key', key, 3)
    const [tokens = 0] = key.shape
    const { blocks, heads, headSize, blockSize } = checkCaches(expect, keyCache, valueCache, kvCacheDType)
    expect.dtype('key', key, keyCache.dtype)
    expect.shape('key', key, tokens, heads, headSize)
    expect.dtype('value', value, key.dtype)
    expect.shape('value', value, ...key.shape)
    expect.dtype('slot_mapping', slotMapping, 'int64')
    expect.shape('slot_mapping', slotMapping, tokens)
    expect.range('slot_mapping', slotMapping, Number.NEGATIVE_INFINITY, blocks * blockSize - 1)
  },

  reference(aten, key, value, keyCache, valueCache, slotMapping) {
    const [blocks = 0, heads = 0, parts = 0, blockSize = 0, x = 0] = keyCache.shape
    const slots = [blocks * blockSize, heads]
    const keys = aten('permute', keyCache, [0, 3, 1, 2, 4]).reshape([...slots, parts, x])
    const newKeys = withRows(aten, keys, slotMapping, key.reshape([key.shape[0] ?? 0, heads, parts, x]))
    aten(
      'copy_',
      keyCache,
      aten('permute', newKeys.reshape([blocks, blockSize, heads, parts, x]), [0, 2, 3, 1, 4]),
    )
    const values = aten('permute', valueCache, [0, 3, 1, 2]).reshape([...slots, parts * x])
    const newValues = withRows(aten, values, slotMapping, value)
    aten(
      'copy_',
      valueCache,
      aten('permute', newValues.reshape([blocks, blockSize, heads, parts * x]), [0, 2, 3, 1]),
    )
  },

  *cases(dtype) {
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
      mayRefuse: ['key_cache', 'value_cache'],
      args: {
        ...good,
        key_cache: { ...good.key_cache, ...apart(good.key_cache.shape, 24) },
        value_cache: { ...good.value_cache, ...apart(good.value_cache.shape, 24) },
      },
    }
  },

  *rejects(dtype) {
    const good = call(dtype, { slots: [0, 17, 63] })
    const slots = (...values: number[]) => ({
      ...good,
      slot_mapping: filled([values.length], 'int64', values),
    })
    yield {
      name: 'a slot behind the cache',
      wrongValues: true,
      argument: 'slot_mapping',
      args: slots(0, 64, 1),
    }
    yield {
      name: 'a slot far behind the cache',
      wrongValues: true,
      argument: 'slot_mapping',
      args: slots(0, 2 ** 50, 1),
    }
    yield { name: 'more slots than tokens', argument: ['slot_mapping', 'key'], args: slots(0, 1, 2, 3) }
    yield {
      name: 'slots of 32 bits',
      argument: 'slot_mapping',
      args: { ...good, slot_mapping: filled([3], 'int32', [1]) },
    }
    yield {
      name: 'slots in two dimensions',
      argument: 'slot_mapping',
      args: { ...good, slot_mapping: filled([1, 3], 'int64', [1]) },
    }
    yield { name: 'float64 keys', argument: 'key', args: { ...good, key: input([3, 2, 64], 'float64') } }
    yield {
      name: 'values of another dtype',
      argument: 'value',
      args: { ...good, value: input([3, 2, 64], otherDType(dtype)) },
    }
    yield { name: 'keys of two dimensions', argument: 'key', args: { ...good, key: input([3, 128], dtype) } }
    yield {
      name: 'fewer values than keys',
      argument: 'value',
      args: { ...good, value: input([2, 2, 64], dtype) },
    }
    yield {
      name: 'smaller heads',
      argument: ['key', 'key_cache'],
      args: { ...good, key: input([3, 2, 32], dtype), value: input([3, 2, 32], dtype) },
    }
    yield {
      name: 'more heads',
      argument: ['key', 'key_cache'],
      args: { ...good, key: input([3, 3, 64], dtype), value: input([3, 3, 64], dtype) },
    }
    const x = packing(dtype)
    const keyCache = (...shape: number[]): TensorSpec => input(shape, dtype)
    yield {
      name: 'a key cache of four dimensions',
      argument: 'key_cache',
      args: { ...good, key_cache: keyCache(4, 2, 64, 16) },
    }
    yield {
      name: 'a key cache packed otherwise',
      argument: ['key_cache', 'value_cache'],
      args: { ...good, key_cache: keyCache(4, 2, 64 / (2 * x), 16, 2 * x) },
    }
    yield {
      name: 'fewer value blocks',
      argument: 'value_cache',
      args: { ...good, value_cache: input([3, 2, 64, 16], dtype) },
    }
    yield {
      name: 'smaller value blocks',
      argument: 'value_cache',
      args: { ...good, value_cache: input([4, 2, 64, 8], dtype) },
    }
    yield {
      name: 'a value cache of another dtype',
      argument: 'value_cache',
      args: { ...good, value_cache: input([4, 2, 64, 16], otherDType(dtype)) },
    }
    yield {
      name: 'an unknown cache dtype',
      argument: 'kv_cache_dtype',
      args: { ...good, kv_cache_dtype: 'int3' },
    }
  },

  tolerance: { float32: COPY, float16: COPY, bfloat16: COPY },
  exact: ['key_cache', 'value_cache'],

  cost: (key, value, _keyCache, _valueCache, slotMapping) => ({
    flops: 0,
    bytes: 2 * bytes(key, value) + bytes(slotMapping),
  }),
})

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

/**
 * {@link reshape_and_cache} for caches in the layout of FlashAttention, where the heads of a token lie side by side; vLLM's
 * `reshape_and_cache_flash`.
 *
 * - `key`, `value` [tokens, heads, head_size]: float32, float16 or bfloat16; each with any stride between tokens.
 * - `key_cache`, `value_cache` [blocks, block_size, heads, head_size], of the dtype of `key`: halves of one [blocks, 2, …] tensor or
 *   tensors of their own; blocks and tokens at any stride.
 * - `slot_mapping` [tokens]: int64, no slot twice; a negative slot is skipped.
 * - `kv_cache_dtype` 'auto'.
 */
export const reshape_and_cache_flash = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'reshape_and_cache_flash(Tensor key, Tensor value, Tensor(a0!) key_cache, Tensor(a1!) value_cache, Tensor slot_mapping, str kv_cache_dtype) -> ()',

  check(expect, key, value, keyCache, valueCache, slotMapping, kvCacheDType) {
    expect.that('kv_cache_dtype', kvCacheDType, kvCacheDType === 'auto', "'auto'")
    expect.floating('key', key)
    expect.rank('key', key, 3)
    const [tokens = 0, heads = 0, headSize = 0] = key.shape
    expect.dtype('value', value, key.dtype)
    expect.shape('value', value, ...key.shape)
    expect.dtype('key_cache', keyCache, key.dtype)
    expect.rank('key_cache', keyCache, 4)
    const [blocks = 0, blockSize = 0] = keyCache.shape
    expect.shape('key_cache', keyCache, blocks, blockSize, heads, headSize)
    expect.dtype('value_cache', valueCache, key.dtype)
    expect.shape('value_cache', valueCache, ...keyCache.shape)
    expect.dtype('slot_mapping', slotMapping, 'int64')
    expect.shape('slot_mapping', slotMapping, tokens)
    expect.range('slot_mapping', slotMapping, Number.NEGATIVE_INFINITY, blocks * blockSize - 1)
  },

  reference(aten, key, value, keyCache, valueCache, slotMapping) {
    for (const [rows, cache] of [
      [key, keyCache],
      [value, valueCache],
    ] as const) {
      const [blocks = 0, blockSize = 0, ...row] = cache.shape
      const slots = cache.reshape([blocks * blockSize, ...row])
      aten('copy_', cache, withRows(aten, slots, slotMapping, rows).reshape(cache.shape))
    }
  },

  *cases(dtype) {
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
      mayRefuse: ['key_cache', 'value_cache'],
      args: caches({ strides: [16 * 144, 144, 72, 1] }),
    }
    const special = filled([5, 2, 64], dtype, SPECIAL)
    yield { name: 'infinities and NaN', args: { ...good, key: special, value: special } }
  },

  *rejects(dtype) {
    const good = flashCall(dtype, { slots: [0, 17, 63] })
    const slots = (...values: number[]) => ({
      ...good,
      slot_mapping: filled([values.length], 'int64', values),
    })
    yield {
      name: 'a slot behind the cache',
      wrongValues: true,
      argument: 'slot_mapping',
      args: slots(0, 64, 1),
    }
    yield {
      name: 'a slot far behind the cache',
      wrongValues: true,
      argument: 'slot_mapping',
      args: slots(0, 2 ** 50, 1),
    }
    yield { name: 'more slots than tokens', argument: ['slot_mapping', 'key'], args: slots(0, 1, 2, 3) }
    yield {
      name: 'slots of 32 bits',
      argument: 'slot_mapping',
      args: { ...good, slot_mapping: filled([3], 'int32', [1]) },
    }
    yield { name: 'float64 keys', argument: 'key', args: { ...good, key: input([3, 2, 64], 'float64') } }
    yield {
      name: 'values of another dtype',
      argument: 'value',
      args: { ...good, value: input([3, 2, 64], otherDType(dtype)) },
    }
    yield { name: 'keys of two dimensions', argument: 'key', args: { ...good, key: input([3, 128], dtype) } }
    yield {
      name: 'fewer values than keys',
      argument: 'value',
      args: { ...good, value: input([2, 2, 64], dtype) },
    }
    yield {
      name: 'smaller heads in the cache',
      argument: 'key_cache',
      args: { ...good, key_cache: input([4, 16, 2, 32], dtype) },
    }
    yield {
      name: 'a key cache packed for paged attention',
      argument: 'key_cache',
      args: { ...good, key_cache: input([4, 2, 8, 16, 8], dtype) },
    }
    yield {
      name: 'fewer value blocks',
      argument: 'value_cache',
      args: { ...good, value_cache: input([3, 16, 2, 64], dtype) },
    }
    yield {
      name: 'a value cache of another dtype',
      argument: 'value_cache',
      args: { ...good, value_cache: input([4, 16, 2, 64], otherDType(dtype)) },
    }
    yield {
      name: 'an unknown cache dtype',
      argument: 'kv_cache_dtype',
      args: { ...good, kv_cache_dtype: 'int3' },
    }
  },

  tolerance: { float32: COPY, float16: COPY, bfloat16: COPY },
  exact: ['key_cache', 'value_cache'],

  cost: (key, value, _keyCache, _valueCache, slotMapping) => ({
    flops: 0,
    bytes: 2 * bytes(key, value) + bytes(slotMapping),
  }),
})

/** Tokens of two heads of 64 elements, `pitch` elements apart. */
function rowsOf(pitch: number): Layout {
  return { strides: [pitch, 64, 1] }
}
