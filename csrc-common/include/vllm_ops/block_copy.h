// SPDX-License-Identifier: Apache-2.0
//
// What copy_blocks and swap_blocks check on every device: caches as blocks of bytes, and pairs of
// blocks.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <vllm_ops/check.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace vllm_ops {

/// A cache [blocks, …] as blocks of bytes.
struct BlockCache {
  MutableView view;
  int64_t blocks, block_bytes, stride_bytes;

  char* block(int64_t index) const { return view.as<char>() + index * stride_bytes; }
};

/// Reads [blocks, …] with blocks of contiguous elements at any stride.
inline BlockCache check_block_cache(const Check& check, const View& v) {
  if (v.dim < 1) check.fail(v.name, "at least 1 dimension", "a scalar");
  check.contiguous(v, 1);
  return {MutableView{v}, v.size(0), v.count(1, v.dim) * v.itemsize, v.stride(0) * v.itemsize};
}

/// The same of a cache that is written: its blocks may not overlap each other.
inline BlockCache check_block_cache(const Check& check, const MutableView& v) {
  const BlockCache cache = check_block_cache(check, static_cast<const View&>(v));
  if (cache.blocks > 1 && cache.stride_bytes < cache.block_bytes)
    check.fail(v.name, "blocks that do not overlap", v.layout());
  return cache;
}

/// The caches of all layers, keys first. `AnyCheck` is Check, or one that looks at devices too.
template <typename AnyCheck>
std::vector<BlockCache> check_block_caches(AnyCheck& check,
                                           std::vector<torch::stable::Tensor>& key_caches,
                                           std::vector<torch::stable::Tensor>& value_caches) {
  if (value_caches.size() != key_caches.size())
    check.fail("value_caches", text("as many caches as in 'key_caches', ", key_caches.size()),
               text(value_caches.size(), " caches"));
  std::vector<BlockCache> caches;
  caches.reserve(2 * key_caches.size());
  const auto add = [&](const char* name, std::vector<torch::stable::Tensor>& tensors) {
    for (torch::stable::Tensor& tensor : tensors) {
      caches.push_back(check_block_cache(check, check.output(name, tensor)));
      if (caches.back().blocks != caches[0].blocks)
        check.fail(name, text(caches[0].blocks, " blocks as in the first of 'key_caches'"),
                   text("shape ", caches.back().view.shape()));
    }
  };
  add("key_caches", key_caches);
  add("value_caches", value_caches);
  return caches;
}

/// The two caches of swap_blocks, wherever they are.
struct SwappedCaches {
  BlockCache from, to;
};

inline SwappedCaches check_swapped_caches(const Check& check, const View& src,
                                          const MutableView& dst) {
  const SwappedCaches caches{check_block_cache(check, src), check_block_cache(check, dst)};
  check.same_dtype(dst, src);
  check.rank(dst, src.dim);
  for (int64_t d = 1; d < src.dim; ++d) check.size(dst, d, src.size(d), "as in 'src'");
  check.disjoint(dst, src);
  return caches;
}

/// Checks that a mapping is [pairs, 2] numbers of 64 bits, one after the other.
inline void check_mapping_layout(const Check& check, const View& mapping) {
  check.dtype(mapping, ScalarType::Long);
  check.rank(mapping, 2);
  check.size(mapping, 1, 2, "from and to");
  check.contiguous(mapping);
}

/// The pairs of a mapping in the CPU's memory.
struct BlockPairs {
  const int64_t* values;  // [count, 2]
  int64_t count;

  int64_t from(int64_t pair) const { return values[2 * pair]; }
  int64_t to(int64_t pair) const { return values[2 * pair + 1]; }
};

/// Checks the values of a mapping: blocks of caches with `sources` and `targets` of them, none
/// written twice, and within `one_cache` none written that another pair reads.
inline BlockPairs check_pairs(const Check& check, const View& mapping, int64_t sources,
                              int64_t targets, bool one_cache) {
  const BlockPairs pairs{mapping.as<int64_t>(), mapping.size(0)};
  std::vector<int64_t> written;
  written.reserve(static_cast<std::size_t>(pairs.count));
  const auto require = [&](int64_t block, int64_t blocks, const char* what, int64_t pair) {
    if (block < 0 || block >= blocks)
      check.fail(mapping.name, text("blocks to ", what, " from 0 to ", blocks - 1),
                 text(block, " in pair ", pair));
  };
  for (int64_t i = 0; i < pairs.count; ++i) {
    require(pairs.from(i), sources, "read", i);
    require(pairs.to(i), targets, "write", i);
    written.push_back(pairs.to(i));
  }
  std::sort(written.begin(), written.end());
  const auto twice = std::adjacent_find(written.begin(), written.end());
  if (twice != written.end())
    check.fail(mapping.name, "each block to write once", text("block ", *twice, " twice"));
  for (int64_t i = 0; one_cache && i < pairs.count; ++i)
    if (pairs.from(i) != pairs.to(i) &&
        std::binary_search(written.begin(), written.end(), pairs.from(i)))
      check.fail(mapping.name, "no block to write that another pair reads",
                 text("block ", pairs.from(i), " in pair ", i));
  return pairs;
}

}  // namespace vllm_ops
