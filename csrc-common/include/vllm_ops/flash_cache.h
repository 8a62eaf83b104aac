// SPDX-License-Identifier: Apache-2.0
//
// What reshape_and_cache_flash checks on every device, and the two copies that it is.
#pragma once

#include <vllm_ops/check.h>

#include <cstdint>
#include <string_view>

namespace vllm_ops {

/// Keys or values: rows of bytes that go to the slots of a cache. Strides are in bytes.
struct FlashCopy {
  const char* rows;  // [tokens, row], row_stride apart
  char* cache;       // [blocks, block_size, row]
  int64_t row_stride, block_stride, slot_stride;
};

/// A call of reshape_and_cache_flash.
struct FlashWrite {
  FlashCopy key, value;
  int64_t row_bytes, blocks, block_size;

  /// Slots of a cache.
  int64_t slots() const { return blocks * block_size; }
};

/// Reads [tokens, heads, head_size] with heads and elements contiguous, and the cache that it goes
/// to, [blocks, block_size, heads, head_size] likewise.
inline FlashCopy check_flash_copy(const Check& check, const View& rows, const MutableView& cache) {
  const Rows tokens = check.rows(rows, 1);
  check.contiguous(cache, 2);
  const int64_t slot = cache.count(2, 4), slots = (cache.size(1) - 1) * cache.stride(1) + slot;
  if ((cache.size(1) > 1 && cache.stride(1) < slot) ||
      (cache.size(0) > 1 && cache.stride(0) < slots))
    check.fail(cache.name, "blocks and slots that do not overlap", cache.layout());
  return {rows.as<char>(), cache.as<char>(), tokens.stride * rows.itemsize,
          cache.stride(0) * cache.itemsize, cache.stride(1) * cache.itemsize};
}

/// Checks everything but the values of the slots.
inline FlashWrite check_flash_write(const Check& check, const View& key, const View& value,
                                    const MutableView& key_cache, const MutableView& value_cache,
                                    const View& slots, std::string_view kv_cache_dtype) {
  if (kv_cache_dtype != "auto")
    check.fail("kv_cache_dtype", "'auto', the dtype of the keys themselves",
               text("'", kv_cache_dtype, "'"));
  check.floating(key);
  check.rank(key, 3);
  check.same_dtype(value, key);
  check.same_shape(value, key);
  check.same_dtype(key_cache, key);
  check.rank(key_cache, 4);
  check.size(key_cache, 2, key.size(1), "the heads of 'key'");
  check.size(key_cache, 3, key.size(2), "the head size of 'key'");
  check.same_dtype(value_cache, key);
  check.same_shape(value_cache, key_cache);
  check.dtype(slots, ScalarType::Long);
  check.rank(slots, 1);
  check.size(slots, 0, key.size(0), "the tokens of 'key'");
  check.contiguous(slots);
  check.disjoint(value_cache, key_cache);
  for (const MutableView& cache : {key_cache, value_cache})
    for (const View& input : {key, value, slots}) check.disjoint(cache, input);
  return {check_flash_copy(check, key, key_cache), check_flash_copy(check, value, value_cache),
          key.count(1, 3) * key.itemsize, key_cache.size(0), key_cache.size(1)};
}

}  // namespace vllm_ops
