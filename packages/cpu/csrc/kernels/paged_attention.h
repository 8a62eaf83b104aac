// SPDX-License-Identifier: Apache-2.0
//
// What the launcher of paged attention tells its kernels.
#pragma once

#include <vllm_ops/paged_layout.h>

#include <algorithm>
#include <cstdint>
#include <limits>

namespace vllm_ops::cpu {

/// A call and how its work is shared out. The work on a sequence is counted in units, a
/// unit being one block of keys for one key head; sequences, their key heads, and parts of their
/// keys follow each other.
struct PagedAttention : PagedAttentionCall {
  /// [parts of all sequences, heads, head_size + 2]: sums of values, then maximum and sum.
  float* partial = nullptr;
  /// [sequences + 1], positions in partial; a sequence of one part has none there.
  const int64_t* first_part = nullptr;
  /// Blocks of keys in a part.
  int64_t part_blocks = std::numeric_limits<int32_t>::max();

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
