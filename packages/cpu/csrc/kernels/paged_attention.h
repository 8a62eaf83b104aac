// SPDX-License-Identifier: Apache-2.0
//
// What paged_attention_v1's launcher tells its kernels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "paged_layout.h"

namespace vllm_ops::cpu {

/// Which keys a query sees: those of its last `local_blocks` blocks of `block_size` tokens, and
/// every `vert_stride`-th block before, counted from the head's own offset. `vert_stride` 1 or
/// less: all keys.
struct BlockSparsity {
  int64_t vert_stride, local_blocks, block_size, head_sliding_step, tp_rank;
};

/// One call of paged_attention_v1 in raw pointers. The work on a sequence is counted in units, a
/// unit being one block of keys for one key head; sequences, their key heads, and parts of their
/// keys follow each other.
struct PagedAttention {
  const void* query;            // [sequences, heads, head_size], sequences query_stride apart
  const void* key_cache;        // by layout
  const void* value_cache;      // by layout
  void* out;                    // [sequences, heads, head_size], sequences out_stride apart
  const int32_t* block_tables;  // [sequences, …], rows block_table_stride apart
  const int32_t* seq_lens;      // [sequences]
  const float* alibi_slopes;    // [heads]; null without
  float* partial;  // [parts of all sequences, heads, head_size + 2]: sums of values, then maximum
                   // and sum
  const int64_t*
      first_part;  // [sequences + 1], positions in partial; a sequence of one part has none there
  float scale;
  int64_t sequences, heads, query_stride, out_stride, block_table_stride;
  int64_t part_blocks;  // blocks of keys in a part
  PagedLayout layout;
  BlockSparsity sparsity;

  /// Blocks that a sequence's keys lie in; an empty sequence counts as one block, for its output is
  /// written too.
  int64_t blocks(int64_t sequence) const {
    return std::max<int64_t>(1, (seq_lens[sequence] + layout.block_size - 1) / layout.block_size);
  }
  int64_t parts(int64_t sequence) const {
    return (blocks(sequence) + part_blocks - 1) / part_blocks;
  }
};

/// Floats of working memory that the kernel needs, whatever the instruction set: for 4 heads
/// queries, scores of a chunk, and sums.
inline int64_t paged_attention_scratch(const PagedLayout& layout) {
  constexpr int64_t kMostLanes = 16, kMostHeads = 4, kChunk = 512;
  const int64_t pieces = layout.head_size / layout.x, rows = (layout.head_size + 3) / 4;
  return kMostHeads * (pieces * std::max(layout.x, kMostLanes) + kChunk + rows * kMostLanes) +
         kMostLanes;
}

}  // namespace vllm_ops::cpu
