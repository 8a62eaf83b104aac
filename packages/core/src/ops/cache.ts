// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { cacheCases, cacheRejects, flashCases, flashRejects } from './cache-cases'
import { type Aten, defineOp } from './card'
import { bytes } from './math'
import { checkCaches } from './paged'

const COPY = { ulps: 0, absolute: 0, reason: 'a copy' }

/** `cache` [slots, …] with the row `slots[i]` replaced by `rows[i]`; a negative slot replaces none. */
function withRows(aten: Aten, cache: Tensor, slots: Tensor, rows: Tensor): Tensor {
  const count = cache.shape[0] ?? 0
  // Rows to skip go to one row more, which is cut off again: neither a loop nor a look at the device's memory.
  const spare = aten('constant_pad_nd', cache, [...cache.shape.slice(1).flatMap(() => [0, 0]), 0, 1])
  const target = aten('masked_fill.Scalar', slots, aten('lt.Scalar', slots, 0), count)
  return aten('narrow', aten('index_copy', spare, 0, target, rows), 0, 0, count)
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

  cases: cacheCases,

  rejects: cacheRejects,

  tolerance: { float32: COPY, float16: COPY, bfloat16: COPY },
  exact: ['key_cache', 'value_cache'],

  cost: (key, value, _keyCache, _valueCache, slotMapping) => ({
    flops: 0,
    bytes: 2 * bytes(key, value) + bytes(slotMapping),
  }),
})

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

  cases: flashCases,

  rejects: flashRejects,

  tolerance: { float32: COPY, float16: COPY, bfloat16: COPY },
  exact: ['key_cache', 'value_cache'],

  cost: (key, value, _keyCache, _valueCache, slotMapping) => ({
    flops: 0,
    bytes: 2 * bytes(key, value) + bytes(slotMapping),
  }),
})
