// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the writes into the paged key and value caches. In FlashAttention's layout a token's
// heads lie side by side, so that writing them is copying a row as it is.

#include <vllm_ops/check.h>
#include <vllm_ops/flash_cache.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/paged_cache.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(reshape_and_cache, T* key_cache, T* value_cache, const T* key, const T* value,
                    const int64_t* slots, const int64_t* order, int64_t count, int64_t key_stride,
                    int64_t value_stride, const PagedLayout& layout, bool past_caches)

namespace {

/// Bytes read and written from which on whole blocks are written past the caches.
constexpr int64_t kLeastStreamed = 1024 * 1024;

/// Whether every head of every block begins at a cache line.
bool aligned(const View& cache, int64_t block_stride, int64_t head_stride) {
  return (reinterpret_cast<uintptr_t>(cache.data) |
          static_cast<uintptr_t>(block_stride * cache.itemsize) |
          static_cast<uintptr_t>(head_stride * cache.itemsize)) %
             64 ==
         0;
}

/// The tokens that have a slot, those of neighbouring slots next to each other: whole rows of a
/// value block are then written at once, however the scheduler mixed the sequences.
std::vector<int64_t> order_by_slot(const int64_t* slots, int64_t count) {
  std::vector<int64_t> order;
  order.reserve(static_cast<std::size_t>(count));
  bool sorted = true;
  int64_t last = -1;
  for (int64_t token = 0; token < count; ++token) {
    if (slots[token] < 0) continue;
    sorted = sorted && slots[token] >= last;
    last = slots[token];
    order.push_back(token);
  }
  if (!sorted)
    std::stable_sort(order.begin(), order.end(),
                     [slots](int64_t a, int64_t b) { return slots[a] < slots[b]; });
  return order;
}

}  // namespace

void reshape_and_cache(const Tensor& key, const Tensor& value, Tensor& key_cache,
                       Tensor& value_cache, const Tensor& slot_mapping,
                       std::string_view kv_cache_dtype, double) {
  constexpr Check check("reshape_and_cache");
  const PagedWrite call =
      check_paged_write(check, key, value, key_cache, value_cache, slot_mapping, kv_cache_dtype);
  const View &k = call.key, &v = call.value, &slots = call.slots;
  const MutableView &kc = call.key_cache, &vc = call.value_cache;
  const Rows &k_rows = call.key_rows, &v_rows = call.value_rows;
  const PagedLayout& layout = call.layout;
  check.values<int64_t>(slots, std::numeric_limits<int64_t>::min(),
                        layout.blocks * layout.block_size - 1);
  if (call.empty()) return;

  const auto order = order_by_slot(slots.as<int64_t>(), slots.size(0));
  const auto write = [&]<typename T>() {
    const auto kernel = kernels::reshape_and_cache<T>.select();
    const int64_t bytes = 4 * k_rows.width * k.itemsize;
    const bool past_caches = static_cast<int64_t>(order.size()) * bytes > kLeastStreamed &&
                             aligned(kc, layout.key_block_stride, layout.key_head_stride) &&
                             aligned(vc, layout.value_block_stride, layout.value_head_stride);
    parallel_for_bytes(static_cast<int64_t>(order.size()), bytes, [&](int64_t begin, int64_t end) {
      kernel(kc.as<T>(), vc.as<T>(), k.as<T>(), v.as<T>(), slots.as<int64_t>(),
             order.data() + begin, end - begin, k_rows.stride, v_rows.stride, layout, past_caches);
    });
  };
  // A copy of bits: only the size of the elements counts.
  if (k.itemsize == 2)
    write.template operator()<uint16_t>();
  else
    write.template operator()<uint32_t>();
}
VLLM_OPS_KERNEL(CPU, reshape_and_cache, reshape_and_cache)

void reshape_and_cache_flash(const Tensor& key, const Tensor& value, Tensor& key_cache,
                             Tensor& value_cache, const Tensor& slot_mapping,
                             std::string_view kv_cache_dtype) {
  constexpr Check check("reshape_and_cache_flash");
  const View k = check.input("key", key), v = check.input("value", value);
  const View slots = check.input("slot_mapping", slot_mapping);
  const MutableView kc = check.output("key_cache", key_cache),
                    vc = check.output("value_cache", value_cache);
  const FlashWrite write = check_flash_write(check, k, v, kc, vc, slots, kv_cache_dtype);
  check.values<int64_t>(slots, std::numeric_limits<int64_t>::min(), write.slots() - 1);
  if (k.numel() == 0) return;

  const auto row = static_cast<std::size_t>(write.row_bytes);
  const auto copy = [&](const FlashCopy& part, int64_t token, int64_t slot) {
    std::memcpy(part.cache + slot / write.block_size * part.block_stride +
                    slot % write.block_size * part.slot_stride,
                part.rows + token * part.row_stride, row);
  };
  parallel_for_bytes(k.size(0), 4 * write.row_bytes, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      const int64_t slot = slots.as<int64_t>()[token];
      if (slot < 0) continue;
      copy(write.key, token, slot);
      copy(write.value, token, slot);
    }
  });
}
VLLM_OPS_KERNEL(CPU, reshape_and_cache_flash, reshape_and_cache_flash)

}  // namespace vllm_ops::cpu
