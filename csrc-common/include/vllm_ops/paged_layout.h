// SPDX-License-Identifier: Apache-2.0
//
// How keys and values lie in a paged cache, and what the kernels of attention over it are told.
// Shared by launchers and kernels: plain numbers, nothing of libtorch.
#pragma once

#include <cstdint>

namespace vllm_ops {

/// key_cache [blocks, heads, head_size / x, block_size, x], value_cache [blocks, heads, head_size,
/// block_size]. The last three dimensions of the one and the last two of the other are contiguous.
struct PagedLayout {
  int64_t blocks, heads, head_size, block_size, x;
  int64_t key_block_stride, key_head_stride;      // of key_cache, in elements
  int64_t value_block_stride, value_head_stride;  // of value_cache, in elements
};

/// Which keys a query sees: those of its last `local_blocks` blocks of `block_size` tokens, and
/// every `vert_stride`-th block before, counted from the head's own offset. `vert_stride` 1 or
/// less: all keys.
struct BlockSparsity {
  int64_t vert_stride, local_blocks, block_size, head_sliding_step, tp_rank;
};

/// A call of paged_attention_v1 or v2 in raw pointers.
struct PagedAttentionCall {
  const void* query;            // [sequences, heads, head_size], sequences query_stride apart
  const void* key_cache;        // by layout
  const void* value_cache;      // by layout
  void* out;                    // [sequences, heads, head_size], sequences out_stride apart
  const int32_t* block_tables;  // [sequences, table_width], rows block_table_stride apart
  const int32_t* seq_lens;      // [sequences]
  const float* alibi_slopes;    // [heads]; null without
  float scale;
  int64_t sequences, heads, query_stride, out_stride;
  int64_t table_width, block_table_stride;
  int64_t longest;  // tokens that a sequence may have: no more than that fit into the table
  PagedLayout layout;
  BlockSparsity sparsity;
};

}  // namespace vllm_ops
