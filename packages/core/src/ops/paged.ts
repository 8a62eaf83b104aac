// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import type { FloatDType } from './card'
import type { Expect } from './expect'

/** How many elements of a head lie side by side in a key cache: 16 bytes of them. */
export function packing(dtype: FloatDType): number {
  return dtype === 'float32' ? 4 : 8
}

/** What the ops on a paged cache demand of it. Returns its sizes. */
export function checkCaches(expect: Expect, keyCache: Tensor, valueCache: Tensor, kvCacheDType: string) {
  expect.that('kv_cache_dtype', kvCacheDType, kvCacheDType === 'auto', "'auto'")
  expect.floating('key_cache', keyCache)
  expect.rank('key_cache', keyCache, 5)
  const [blocks = 0, heads = 0, parts = 0, blockSize = 0, x = 0] = keyCache.shape
  expect.that(
    'key_cache',
    keyCache,
    x === 16 / keyCache.itemsize,
    `${16 / keyCache.itemsize} elements in the last dimension`,
  )
  expect.dtype('value_cache', valueCache, keyCache.dtype)
  expect.shape('value_cache', valueCache, blocks, heads, parts * x, blockSize)
  return { blocks, heads, headSize: parts * x, blockSize }
}
