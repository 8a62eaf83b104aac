// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the copies of whole cache blocks. Blocks are copied as bytes, whatever they hold: a
// kernel of our own could do no better than memcpy.

#include <vllm_ops/block_copy.h>
#include <vllm_ops/kernel.h>

#include <cstring>

#include "parallel.h"

namespace vllm_ops::cpu {

void copy_blocks(std::vector<torch::stable::Tensor>& key_caches,
                 std::vector<torch::stable::Tensor>& value_caches, const Tensor& block_mapping) {
  constexpr Check check("copy_blocks");
  const std::vector<BlockCache> caches = check_block_caches(check, key_caches, value_caches);
  const View mapping = check.input("block_mapping", block_mapping);
  check_mapping_layout(check, mapping);
  if (caches.empty()) return;
  for (const BlockCache& cache : caches) check.disjoint(cache.view, mapping);
  const BlockPairs pairs = check_pairs(check, mapping, caches[0].blocks, caches[0].blocks, true);
  for (const BlockCache& cache : caches)
    parallel_for_bytes(pairs.count, 2 * cache.block_bytes, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        if (pairs.from(i) != pairs.to(i))
          std::memcpy(cache.block(pairs.to(i)), cache.block(pairs.from(i)),
                      static_cast<std::size_t>(cache.block_bytes));
    });
}
VLLM_OPS_KERNEL(CPU, copy_blocks, copy_blocks)

void swap_blocks(const Tensor& src, Tensor& dst, const Tensor& block_mapping) {
  constexpr Check check("swap_blocks");
  const SwappedCaches caches =
      check_swapped_caches(check, check.input("src", src), check.output("dst", dst));
  const View mapping = check.input("block_mapping", block_mapping);
  check_mapping_layout(check, mapping);
  check.disjoint(caches.to.view, mapping);
  const BlockPairs pairs = check_pairs(check, mapping, caches.from.blocks, caches.to.blocks, false);
  const int64_t bytes = caches.to.block_bytes;
  parallel_for_bytes(pairs.count, 2 * bytes, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      std::memcpy(caches.to.block(pairs.to(i)), caches.from.block(pairs.from(i)),
                  static_cast<std::size_t>(bytes));
  });
}
VLLM_OPS_KERNEL(CPU, swap_blocks, swap_blocks)

}  // namespace vllm_ops::cpu
