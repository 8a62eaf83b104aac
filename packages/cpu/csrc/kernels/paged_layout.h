// SPDX-License-Identifier: Apache-2.0
//
// How keys and values lie in a paged cache. Shared by launchers and kernels: plain numbers, nothing
// of libtorch.
#pragma once

#include <cstdint>

namespace vllm_ops::cpu {

/// key_cache [blocks, heads, head_size / x, block_size, x], value_cache [blocks, heads, head_size,
/// block_size]. The last three dimensions of the one and the last two of the other are contiguous.
struct PagedLayout {
  int64_t blocks, heads, head_size, block_size, x;
  int64_t key_block_stride, key_head_stride;      // of key_cache, in elements
  int64_t value_block_stride, value_head_stride;  // of value_cache, in elements
};

}  // namespace vllm_ops::cpu
