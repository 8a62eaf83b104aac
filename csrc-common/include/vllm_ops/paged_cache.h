// SPDX-License-Identifier: Apache-2.0
//
// What all ops on a paged cache check of it.
#pragma once

#include <vllm_ops/check.h>
#include <vllm_ops/paged_layout.h>

#include <string_view>

namespace vllm_ops {

/// Checks the two caches against each other and reads their layout.
inline PagedLayout check_paged_caches(const Check& check, const View& key_cache,
                                      const View& value_cache, std::string_view kv_cache_dtype) {
  if (kv_cache_dtype != "auto")
    check.fail("kv_cache_dtype", "'auto', the dtype of the keys themselves",
               text("'", kv_cache_dtype, "'"));
  check.floating(key_cache);
  check.rank(key_cache, 5);
  check.size(key_cache, 4, 16 / key_cache.itemsize, "16 bytes of elements");
  check.contiguous(key_cache, 2);
  const int64_t blocks = key_cache.size(0), heads = key_cache.size(1),
                block_size = key_cache.size(3);
  const int64_t x = key_cache.size(4), head_size = key_cache.size(2) * x;
  check.same_dtype(value_cache, key_cache);
  check.rank(value_cache, 4);
  check.size(value_cache, 0, blocks, "the blocks of 'key_cache'");
  check.size(value_cache, 1, heads, "the heads of 'key_cache'");
  check.size(value_cache, 2, head_size, "the head size of 'key_cache'");
  check.size(value_cache, 3, block_size, "the block size of 'key_cache'");
  check.contiguous(value_cache, 2);
  return {blocks,
          heads,
          head_size,
          block_size,
          x,
          key_cache.stride(0),
          key_cache.stride(1),
          value_cache.stride(0),
          value_cache.stride(1)};
}

/// The same of caches that are written: blocks and heads may not overlap each other.
inline PagedLayout check_paged_caches(const Check& check, const MutableView& key_cache,
                                      const MutableView& value_cache,
                                      std::string_view kv_cache_dtype) {
  const PagedLayout layout =
      check_paged_caches(check, static_cast<const View&>(key_cache), value_cache, kv_cache_dtype);
  for (const MutableView& cache : {key_cache, value_cache}) {
    const int64_t head = cache.count(2, cache.dim),
                  block = (layout.heads - 1) * cache.stride(1) + head;
    if ((layout.heads > 1 && cache.stride(1) < head) ||
        (layout.blocks > 1 && cache.stride(0) < block))
      check.fail(cache.name, "blocks and heads that do not overlap", cache.layout());
  }
  return layout;
}

/// A call of reshape_and_cache, checked but for the values of the slots.
struct PagedWrite {
  View key, value, slots;
  MutableView key_cache, value_cache;
  Rows key_rows, value_rows;
  PagedLayout layout;

  bool empty() const { return key.numel() == 0; }
};

/// `AnyCheck` is Check, or one that looks at devices too.
template <typename AnyCheck>
PagedWrite check_paged_write(AnyCheck& check, const Tensor& key, const Tensor& value,
                             Tensor& key_cache, Tensor& value_cache, const Tensor& slot_mapping,
                             std::string_view kv_cache_dtype) {
  PagedWrite write{check.input("key", key),
                   check.input("value", value),
                   check.input("slot_mapping", slot_mapping),
                   check.output("key_cache", key_cache),
                   check.output("value_cache", value_cache),
                   {},
                   {},
                   {}};
  const View &k = write.key, &v = write.value, &slots = write.slots;
  check.floating(k);
  check.rank(k, 3);
  check.same_dtype(v, k);
  check.same_shape(v, k);
  write.layout = check_paged_caches(check, write.key_cache, write.value_cache, kv_cache_dtype);
  check.same_dtype(write.key_cache, k);
  check.size(k, 1, write.layout.heads, "the heads of 'key_cache'");
  check.size(k, 2, write.layout.head_size, "the head size of 'key_cache'");
  write.key_rows = check.rows(k, 1);
  write.value_rows = check.rows(v, 1);
  check.dtype(slots, ScalarType::Long);
  check.rank(slots, 1);
  check.size(slots, 0, k.size(0), "the tokens of 'key'");
  check.contiguous(slots);
  check.disjoint(write.value_cache, write.key_cache);
  for (const MutableView& cache : {write.key_cache, write.value_cache})
    for (const View& input : {k, v, slots}) check.disjoint(cache, input);
  return write;
}

}  // namespace vllm_ops
