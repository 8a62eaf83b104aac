// SPDX-License-Identifier: Apache-2.0
//
// How chunks of 16 tokens' keys and values come to the warps of attend_tensor_cores: each warp has
// a queue of its own in shared memory, of kStages chunks. Two kinds of queue:
//   CopyQueue: every lane copies 16 bytes at a time (cp.async), from blocks of any multiple of 8
//     tokens. Keys [kSize / 8 pieces, 16 tokens, 8 elements], values [2 halves, kSize elements, 8
//     tokens].
//   BulkQueue: one lane copies a block of 16 tokens whole (cp.async.bulk), keys and values as they
//     lie in the cache: [size / 8, 16, 8] and [size, 16]. Fewer instructions beside the arithmetic
//     and room for more on its way: measured on an H200, it is what reaches the memory's rate.
// Rows of 16 bytes either way, which is what ldmatrix reads. Two stages are enough to keep the
// memory busy: measured on an H200, calls with three take 4 % longer.
#pragma once

#include <vllm_ops/copy_bulk.cuh>

#include "part.cuh"

namespace vllm_ops::cuda {

/// Tokens that are worked on together.
constexpr int kChunk = kPartStep;
/// Bytes of shared memory behind a warp's queue for the queries of a block: of large heads, which
/// leave no registers for them.
template <int kSize>
constexpr int kQueryBytes = kSize <= 128 ? 0 : kSize / 16 * 32 * int{sizeof(uint2)};
/// Bytes of shared memory that blocks of a multiprocessor share, on compute capability 9.0.
constexpr int kMultiprocessorShared = 228 << 10;

/// The row of 16 bytes, of four 8 x 8 matrices, whose address a lane gives to ldmatrix: matrices 0
/// and 1 are rows 0-7 of the first half and of the second, 2 and 3 are rows 8-15 of both.
struct MatrixRow {
  int row, half;
  __device__ explicit MatrixRow(int lane) : row(lane / 16 * 8 + lane % 8), half(lane / 8 % 2) {}
};

/// Makes values behind the first `tokens` of a chunk zeros. `row_of`: the address of this lane's
/// row of the matrices that 16 elements are in.
template <int kSize, typename RowOf>
__device__ inline void clear_values_behind(int tokens, int lane, const RowOf& row_of) {
  const int kept = tokens - MatrixRow(lane).half * 8;
#pragma unroll 1
  for (int i = 0; i < kSize / 16; ++i)
#pragma unroll
    for (int t = 0; t < 8; ++t)
      if (t >= kept)
        asm volatile("st.shared.b16 [%0], %1;" ::"r"(row_of(i) + t * 2), "h"(uint16_t{0})
                     : "memory");
  __syncwarp();
}

/// Where the chunks of one block of threads come from.
template <typename T>
struct ChunkSource {
  const AttentionKernel& call;
  const int32_t* table;  // of the sequence
  const T *keys, *values;
  int last_chunk = 0, length = 0;  // none before set()

  __device__ ChunkSource(const AttentionKernel& call, const Work& work)
      : call(call),
        table(call.block_tables + work.sequence * call.block_table_stride),
        keys(static_cast<const T*>(call.key_cache) + work.kv_head * call.layout.key_head_stride),
        values(static_cast<const T*>(call.value_cache) +
               work.kv_head * call.layout.value_head_stride) {}

  /// Once the length is known, and for another one than before.
  __device__ void set(const Work& work) {
    last_chunk = work.begin < work.end ? static_cast<int>(ceil_div(work.end, kChunk)) : 0;
    length = work.length;
  }

  __device__ const T* keys_of(int64_t block) const {
    return keys + block * call.layout.key_block_stride;
  }
  __device__ const T* values_of(int64_t block) const {
    return values + block * call.layout.value_block_stride;
  }
};

template <typename T, int kSize>
class CopyQueue {
 public:
  static constexpr int kWarps = kSize <= 128 ? 4 : 2, kStages = kSize <= 64 ? 4 : 2;
  static constexpr int kBlocksPerMultiprocessor = 3;
  static constexpr int kBytes = kChunk * kSize * 2;  // a chunk of keys, or of values
  static constexpr int kEnd = kWarps * kStages * 2 * kBytes;
  static constexpr int kShared = kEnd + kWarps * kQueryBytes<kSize>, kClusterBlocks = 1;
  static constexpr bool kRoomBehind = false;
  static constexpr bool kEarly = false;  // copies cannot be got ready before they are started

  __device__ CopyQueue(const ChunkSource<T>& source, unsigned char* memory, int warp, int lane)
      : source_(source),
        lane_(lane),
        queue_(shared_address(memory) + static_cast<uint32_t>(warp * kStages * 2 * kBytes)) {}

  /// Nothing is looked up for several chunks.
  __device__ static int block_of(const ChunkSource<T>&, int, int) { return -1; }
  __device__ void begin(int, int) { missing_ = false; }

  /// Fetches a warp's first chunks into the L2 cache: a lane takes a line of each, 8 tokens by 8
  /// elements of keys, or 64 values.
  __device__ static void fetch_ahead(const ChunkSource<T>& source, int first_chunk, int, int lane) {
    const PagedLayout& layout = source.call.layout;
    Slot slots[kStages];
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      const int token = (first_chunk + i * kWarps) * kChunk + lane % 2 * 8;
      const bool inside = first_chunk + i * kWarps < source.last_chunk && token < source.length;
      slots[i] = inside ? slot_of(source.call, source.table, token) : Slot{-1, 0};
    }
#pragma unroll
    for (int i = 0; i < kStages; ++i) {
      if (!exists(source.call, slots[i].block)) continue;
      const int64_t place = slots[i].place, rows = layout.block_size;
      const T* const keys = source.keys_of(slots[i].block) + place * 8;
      const T* const values =
          source.values_of(slots[i].block) + max(place - lane % 2 * 8, int64_t{0});
      for (int line = lane; line < layout.head_size / 4; line += 32) {
        fetch_line(keys + line / 2 * rows * 8);
        fetch_line(values + static_cast<int64_t>(line) * 4 * rows);
      }
    }
  }

  /// Half a chunk is 8 tokens of one block. A lane copies keys of token lane % 16, and values of
  /// half lane % 2.
  __device__ void look_up(int chunk) {
    const auto find = [&](int half) {
      const int first = chunk * kChunk + half * 8;
      const bool inside = chunk < source_.last_chunk && first < source_.length;
      return Half{inside ? slot_of(source_.call, source_.table, first) : Slot{-1, 0}, inside};
    };
    next_keys_ = find(lane_ % 16 / 8);
    next_values_ = find(lane_ % 2);
  }

  __device__ void fetch_keys(int stage) {
    const bool there = present(next_keys_);
    const int64_t size = source_.call.layout.head_size, rows = source_.call.layout.block_size;
    const T* const from = there
                              ? source_.keys_of(next_keys_.slot.block) +
                                    (next_keys_.slot.place + lane_ % 8) * 8 + lane_ / 16 * rows * 8
                              : source_.keys;
#pragma unroll
    for (int i = 0; i < kSize / 16; ++i) {
      const bool piece = there && (2 * i + lane_ / 16) * 8 < size;
      copy_async(key_stage(stage) + i * 512 + lane_ * 16,
                 piece ? from + i * 2 * rows * 8 : source_.keys, piece);
    }
    commit_copies();
  }
  __device__ void fetch_values(int stage) {
    const bool there = present(next_values_);
    const int64_t size = source_.call.layout.head_size, rows = source_.call.layout.block_size;
    const T* const from = there ? source_.values_of(next_values_.slot.block) + lane_ / 2 * rows +
                                      next_values_.slot.place
                                : source_.values;
    const uint32_t to = value_stage(stage) + lane_ % 2 * (kBytes / 2) + lane_ / 2 * 16;
#pragma unroll
    for (int i = 0; i < kSize / 16; ++i) {
      const bool element = there && i * 16 + lane_ / 2 < size;
      copy_async(to + i * 256, element ? from + i * 16 * rows : source_.values, element);
    }
    commit_copies();
  }

  /// Two groups of copies for each stage are under way, the one that is waited for the oldest.
  __device__ void wait_for_keys(int) { wait<2 * kStages - 1>(); }
  __device__ void wait_for_values(int) { wait<2 * kStages - 1>(); }
  __device__ void wait_for_all() { wait<0>(); }
  /// To be called behind the last stage.
  __device__ void next_round() {}

  /// This lane's row of the four matrices that elements 16 i … 16 i + 15 are in: of keys, rows are
  /// tokens and halves of 8 elements; of values, rows are elements and halves of 8 tokens.
  __device__ uint32_t keys(int stage, int i) const {
    const MatrixRow at(lane_);
    return key_stage(stage) + i * 512 + at.half * 256 + at.row * 16;
  }
  __device__ uint32_t values(int stage, int i) const {
    const MatrixRow at(lane_);
    return value_stage(stage) + at.half * (kBytes / 2) + i * 256 + at.row * 16;
  }

  /// Whether a block that was wanted does not exist.
  __device__ bool missing() const { return missing_; }

 private:
  struct Half {
    Slot slot;
    bool inside;
  };

  __device__ bool present(const Half& half) {
    const bool there = half.inside && exists(source_.call, half.slot.block);
    missing_ |= half.inside && !there;
    return there;
  }
  template <int kPending>
  __device__ void wait() {
    wait_for_copies<kPending>();
    __syncwarp();
  }
  __device__ uint32_t key_stage(int stage) const { return queue_ + stage * 2 * kBytes; }
  __device__ uint32_t value_stage(int stage) const { return queue_ + (stage * 2 + 1) * kBytes; }

  const ChunkSource<T>& source_;
  int lane_;
  uint32_t queue_;
  Half next_keys_, next_values_;
  bool missing_ = false;
};

/// kBlockWarps: of a block.
template <typename T, int kSize, int kBlockWarps>
class BulkQueue {
 public:
  static constexpr int kWarps = kBlockWarps, kStages = kSize <= 64 ? 4 : 2;
  static constexpr bool kEarly = true;  // copies can be got ready before they are started
  static constexpr int kBytes = kChunk * kSize * 2;  // room for a chunk of keys, or of values
  static constexpr int kBarriers = kWarps * kStages * 2 * 8;
  static constexpr int kEnd = kWarps * kStages * 2 * kBytes + kBarriers;
  static constexpr bool kRoomBehind = kSize <= 128;  // for the warps' results

  __device__ BulkQueue(const ChunkSource<T>& source, unsigned char* memory, int warp, int lane)
      : source_(source),
        lane_(lane),
        bytes_(static_cast<uint32_t>(source.call.layout.head_size) * kChunk * 2),
        queue_(shared_address(memory) + static_cast<uint32_t>(warp * kStages * 2 * kBytes)),
        barriers_(shared_address(memory) +
                  static_cast<uint32_t>(kWarps * kStages * 2 * kBytes + warp * kStages * 2 * 8)) {
    // Behind smaller heads: what is multiplied by no query must be numbers.
#pragma unroll 1
    for (int stage = 0; stage < kStages; ++stage)
#pragma unroll 1
      for (uint32_t at = bytes_ + lane * 16; at < kBytes; at += 32 * 16)
        *reinterpret_cast<uint4*>(memory + warp * kStages * 2 * kBytes + stage * 2 * kBytes + at) =
            uint4{0, 0, 0, 0};
    if (lane < 2 * kStages) init_barrier(barriers_ + lane * 8);
    if (lane < 2 * kStages) publish_barriers();
    __syncwarp();
  }

  /// Begins at a chunk; `block`: what block_of has for it.
  __device__ void begin(int first_chunk, int block) {
    first_chunk_ = first_chunk, group_ = 0, missing_ = false;
    know(block);
  }

  /// The block of this lane's chunk: every kWarps-th one from `first_chunk` on.
  __device__ static int block_of(const ChunkSource<T>& source, int first_chunk, int lane) {
    const int chunk = first_chunk + lane * kWarps;
    return chunk < source.call.table_width ? load_current(source.table + chunk) : -1;
  }

  /// Fetches a warp's first chunk into the L2 cache; `block`: what block_of has for it. What is
  /// fetched of more delays what is waited for.
  __device__ static void fetch_ahead(const ChunkSource<T>& source, int first_chunk, int block,
                                     int lane) {
    if (lane != 0 || first_chunk >= source.last_chunk || !exists(source.call, block)) return;
    const auto bytes = static_cast<uint32_t>(source.call.layout.head_size) * kChunk * 2;
    fetch_bulk(source.keys_of(block), bytes);
    fetch_bulk(source.values_of(block), bytes);
  }

  /// A chunk is a block. Each lane knows where one is, of 32 chunks of this warp, and copies it.
  __device__ void look_up(int chunk) {
    const int index = (chunk - first_chunk_) / kWarps;
    const bool inside = chunk < source_.last_chunk;
    if (inside && index / 32 != group_) {
      group_ = index / 32;
      know(block_of(source_, first_chunk_ + group_ * 32 * kWarps, lane_));
    }
    mine_ = inside && index % 32 == lane_;
  }

  /// Copies of the first chunks are got ready; nothing of the caches is read before send().
  __device__ void prepare(int stage) {
    if (lane_ == stage) expect(stage * 2), expect(stage * 2 + 1);
  }
  __device__ void send(int stage) {
    if (lane_ != stage || keys_ == nullptr) return;
    copy(stage * 2, keys_);
    copy(stage * 2 + 1, values_);
  }

  __device__ void fetch_keys(int stage) {
    if (mine_) fetch(stage * 2, keys_);
  }
  __device__ void fetch_values(int stage) {
    if (mine_) fetch(stage * 2 + 1, values_);
  }

  __device__ void wait_for_keys(int stage) { wait_for_barrier(barrier(stage * 2), parity_); }
  __device__ void wait_for_values(int stage) { wait_for_barrier(barrier(stage * 2 + 1), parity_); }
  /// Nothing is under way that was not waited for.
  __device__ void wait_for_all() {}
  __device__ void next_round() { parity_ ^= 1; }

  __device__ uint32_t keys(int stage, int i) const {
    const MatrixRow at(lane_);
    return place(stage * 2) + i * 512 + at.half * 256 + at.row * 16;
  }
  __device__ uint32_t values(int stage, int i) const {
    const MatrixRow at(lane_);
    return place(stage * 2 + 1) + i * 512 + at.row * 32 + at.half * 16;
  }
  __device__ bool missing() const { return missing_; }

 private:
  /// This lane's chunk of the group is this block.
  __device__ void know(int block) {
    const int chunk = first_chunk_ + (group_ * 32 + lane_) * kWarps;
    const bool inside = chunk < source_.last_chunk, there = inside && exists(source_.call, block);
    missing_ |= inside && !there;
    keys_ = there ? source_.keys_of(block) : nullptr;
    values_ = source_.values_of(block);
  }
  /// A barrier's phase ends without a copy where there is no chunk, or its block does not exist.
  __device__ void expect(int at) { arrive_expecting(barrier(at), keys_ != nullptr ? bytes_ : 0); }
  __device__ void copy(int at, const T* from) {
    copy_bulk_once(place(at), from, bytes_, barrier(at));
  }
  __device__ void fetch(int at, const T* from) {
    expect(at);
    if (keys_ != nullptr) copy(at, from);
  }
  __device__ uint32_t place(int at) const { return queue_ + at * kBytes; }
  __device__ uint32_t barrier(int at) const { return barriers_ + at * 8; }

  const ChunkSource<T>& source_;
  int lane_, first_chunk_ = 0, group_ = 0;
  uint32_t bytes_, queue_, barriers_, parity_ = 0;
  const T *keys_ = nullptr, *values_ = nullptr;  // of this lane's chunk; keys_: null without one
  bool mine_ = false;                            // the chunk that is to be fetched next
  bool missing_ = false;
};

/// Of blocks two of which run at once on a multiprocessor: a third, for which there might be room,
/// would leave others with one.
template <typename T, int kSize>
struct HalfQueue : BulkQueue<T, kSize, kSize <= 128 ? 4 : 2> {
  using BulkQueue<T, kSize, kSize <= 128 ? 4 : 2>::BulkQueue;
  static constexpr int kBlocksPerMultiprocessor = 2, kShared = 84 << 10, kClusterBlocks = 1;
  static_assert(3 * kShared > kMultiprocessorShared);
};

/// Of blocks with twice as many warps, each of which has a multiprocessor to itself. Behind queues
/// and queries there is room for the results of the blocks of a cluster.
template <typename T, int kSize>
struct WholeQueue : BulkQueue<T, kSize, kSize <= 128 ? 8 : 4> {
  using BulkQueue<T, kSize, kSize <= 128 ? 8 : 4>::BulkQueue;
  static constexpr int kBlocksPerMultiprocessor = 1, kShared = 220 << 10;
  static constexpr int kClusterBlocks = kMostClusterBlocks;
  static_assert(2 * kShared > kMultiprocessorShared);
};

}  // namespace vllm_ops::cuda
