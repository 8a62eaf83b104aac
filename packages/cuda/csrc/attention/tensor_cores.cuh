// SPDX-License-Identifier: Apache-2.0
//
// Paged attention of 16-bit elements on tensor cores, at the speed of memory. A warp takes every
// kWarps-th chunk of 16 tokens of the block's part, out of its queue of chunks on their way; the
// results of warps, and of the blocks of a cluster, are put together at the end. Products have 8
// rows for query heads and 8 more:
//   S [heads | 0, 8 tokens] += Q [heads | 0, 16 elements] K^T [16, 8]
//   O [high | low, 8 elements] += P [high | low, 16 tokens] V [16, 8]
// The caches' layouts are what ldmatrix wants: pieces of 8 elements, rows of 8 tokens. Weights are
// split into sums of two 16-bit numbers, high and low, so that only the result is rounded; a lane
// has the logits that its part of P is made of. Fragments as in mma.cuh: lane = 4 row + column
// throughout, and a lane's row is its head.
//
// Chunks are worked on one after the other, each in the time of its instructions one behind the
// other: there are few warps, and half as many instructions made calls 3 to 8 % faster. Hence a
// lane copies what it has looked up itself, and the reference of the weights is the first chunk's
// largest logit, changed only when another is more than kMostAhead above.
#pragma once

#include <vllm_ops/cluster.cuh>
#include <vllm_ops/mma.cuh>

#include "queue.cuh"

namespace vllm_ops::cuda {

/// Query heads that are worked on together.
constexpr int kHeadsOfBlock = 8;

/// Four 8 x 8 matrices: lanes 8 i … 8 i + 7 give the addresses of the rows of matrix i.
__device__ inline void load_matrices(uint32_t (&m)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

/// Logits are no more than this above the reference of their weights, in units of log2.
constexpr float kMostAhead = 8.0f;

/// Heads that a block works on.
struct Heads {
  int first, count;
};

/// Floats of a head of results in shared memory: half a warp writes to different banks.
template <int kSize>
constexpr int kSumsRow = kSize + 8;
/// Floats of one result: sums [heads, kSumsRow], then references and totals [heads].
template <int kSize>
constexpr int kResultFloats = kHeadsOfBlock * (kSumsRow<kSize> + 2);

/// Results for the heads of a block in shared memory, of its warps or of the blocks of a cluster.
template <int kSize>
struct Results {
  static constexpr int kReferences = kHeadsOfBlock * kSumsRow<kSize>;
  static constexpr int kTotals = kReferences + kHeadsOfBlock;

  float* memory;

  /// Neighbouring elements of a head.
  struct Piece {
    PutFloats sums{};
    float reference = -INFINITY, total = 0.0f;
  };

  /// Elements `d` … of a head: the first `count` results put together, kAtOnce of them at once.
  /// Totals that are NaN, which mark what could not be computed, stay it with any factor.
  template <int kAtOnce>
  __device__ __forceinline__ Piece merge(int count, int head, int d) const {
    Piece merged;
#pragma unroll kAtOnce
    for (int i = 0; i < count; ++i)
      merged.reference =
          fmaxf(merged.reference, memory[i * kResultFloats<kSize> + kReferences + head]);
#pragma unroll kAtOnce
    for (int i = 0; i < count; ++i) {
      const float* const result = memory + i * kResultFloats<kSize>;
      const float factor = rescale(result[kReferences + head], merged.reference);
      merged.total += factor * result[kTotals + head];
      const auto sums = load<kPutElements>(result + head * kSumsRow<kSize> + d);
#pragma unroll
      for (int e = 0; e < kPutElements; ++e) merged.sums[e] += factor * sums.values[e];
    }
    return merged;
  }
};

/// Calls body(head, d) for the elements `d` … that this thread puts together.
template <int kSize, typename Body>
__device__ __forceinline__ void for_each_piece(const Heads& heads, int size, const Body& body) {
#pragma unroll 1
  for (int i = threadIdx.x * kPutElements; i < heads.count * kSize; i += blockDim.x * kPutElements)
    if (i % kSize < size) body(i / kSize, i % kSize);
}

/// Where the first block of a cluster puts the results of all of them together: a barrier that
/// counts the bytes of the others', and room for each.
template <int kSize>
struct ClusterResults {
  static constexpr int kBarrierBytes = 16;
  static constexpr int bytes(int blocks) {
    return kBarrierBytes + blocks * kResultFloats<kSize> * int{sizeof(float)};
  }

  unsigned char* memory;

  __device__ uint32_t barrier() const { return shared_address(memory); }
  __device__ float* result(int block) const {
    return reinterpret_cast<float*>(memory + kBarrierBytes) + block * kResultFloats<kSize>;
  }
  /// Of a thread of each block, before they arrive at the cluster.
  __device__ void init() const {
    init_barrier(barrier());
    publish_barriers();
  }
};

/// Puts the results of a block's warps together, then those of a cluster's blocks, and writes them.
/// Each warp has sums O, and of this lane's head the reference of its weights and this lane's part
/// of their total. `memory` has room for the results of the warps, and nothing uses it any more;
/// `bad`: something that this thread wanted does not exist.
template <typename T, int kSize, int kWarps>
__device__ __forceinline__ void put_together(const AttentionKernel& call, const Work& work,
                                             const Heads& heads, float* memory,
                                             const ClusterResults<kSize>& cluster,
                                             const float (&sums)[kSize / 8][4], float reference,
                                             float total, bool bad) {
  using R = Results<kSize>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  float* const result = memory + warp * kResultFloats<kSize>;
  total += __shfl_xor_sync(~0u, total, 1);
  total += __shfl_xor_sync(~0u, total, 2);
  if (column == 0) result[R::kReferences + row] = reference, result[R::kTotals + row] = total;
#pragma unroll
  for (int i = 0; i < kSize / 8; ++i)
    *reinterpret_cast<float2*>(result + row * kSumsRow<kSize> + i * 8 + 2 * column) =
        float2{sums[i][0] + sums[i][2], sums[i][1] + sums[i][3]};
  const bool missing = __syncthreads_or(bad);
  const int size = static_cast<int>(call.layout.head_size);
  const uint32_t first_barrier = in_first_block(cluster.barrier());
  float* const own = cluster.result(work.part);
  const uint32_t to = in_first_block(shared_address(own));
  for_each_piece<kSize>(heads, size, [&](int head, int d) {
    const auto piece = R{memory}.template merge<kWarps>(kWarps, head, d);
    const float all = missing ? NAN : piece.total;
    if (!call.clusters)
      return put<T>(call, work, heads.first + head, d, piece.sums, piece.reference, all);
    const float4 numbers{piece.sums[0], piece.sums[1], piece.sums[2], piece.sums[3]};
    const int place = head * kSumsRow<kSize> + d;
    if (work.part == 0) {
      *reinterpret_cast<float4*>(own + place) = numbers;
      if (d == 0) own[R::kReferences + head] = piece.reference, own[R::kTotals + head] = all;
    } else {
      send(to + place * 4, numbers, first_barrier);
      if (d != 0) return;
      send(to + (R::kReferences + head) * 4, piece.reference, first_barrier);
      send(to + (R::kTotals + head) * 4, all, first_barrier);
    }
  });
  if (!call.clusters || work.part != 0) return;
  if (threadIdx.x == 0)
    arrive_expecting(cluster.barrier(), static_cast<uint32_t>((call.parts - 1) * heads.count *
                                                              (size + 2) * sizeof(float)));
  __syncthreads();  // own results
  wait_for_barrier(cluster.barrier(), 0);
  for_each_piece<kSize>(heads, size, [&](int head, int d) {
    const auto piece = R{cluster.result(0)}.template merge<1>(call.parts, head, d);
    put_result<T>(call, work.sequence, heads.first + head, d, piece.sums, piece.total);
  });
}

/// kSparse: some head does not see all keys.
template <typename T, int kSize, template <typename, int> typename Queue, bool kSparse>
__global__ void __launch_bounds__(32 * Queue<T, kSize>::kWarps,
                                  Queue<T, kSize>::kBlocksPerMultiprocessor)
    attend_tensor_cores(const __grid_constant__ AttentionKernel call) {
  using Q = Queue<T, kSize>;
  constexpr int kSteps = kSize / 16;  // of 16 elements of a head
  // Behind the queues: queries, then the warps' results, if there is room, and those of a cluster.
  constexpr int kQueries = Q::kEnd, kBehind = kQueries + Q::kWarps * kQueryBytes<kSize>;
  constexpr int kWarpResults = Q::kWarps * kResultFloats<kSize> * int{sizeof(float)};
  constexpr int kClusterResults = kBehind + (Q::kRoomBehind ? kWarpResults : 0);
  static_assert(kWarpResults <= Q::kEnd && kClusterResults <= Q::kShared);
  static_assert(Q::kClusterBlocks == 1 ||
                kClusterResults + ClusterResults<kSize>::bytes(Q::kClusterBlocks) <= Q::kShared);
  extern __shared__ __align__(128) unsigned char queues[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  const ClusterResults<kSize> cluster{queues + kClusterResults};
  if (call.clusters) {
    if (threadIdx.x == 0) cluster.init();
    arrive_at_cluster();
  }
  // Everything up to the first copies is got ready while the kernel before this one ends, by what
  // lengths and blocks are now. Whether that kernel changed them is seen when the copies have been
  // started. With sparsity the first chunks may lie behind the blocks that are known by then.
  constexpr bool kEarly = Q::kEarly && !kSparse;
  Work work(call, blockIdx.x);
  ChunkSource<T> source(call, work);
  const int length_before = work.said_length(call);
  // The first part begins at the first chunk, whatever the length: both are asked for at once.
  int blocks_before = work.part == 0 ? Q::block_of(source, warp, lane) : -1;
  Q queue(source, queues, warp, lane);
  work.set_length(call, length_before);
  source.set(work);
  int first_chunk = work.begin / kChunk + warp;
  if (work.part != 0) blocks_before = Q::block_of(source, first_chunk, lane);
  if (blockIdx.x < call.at_once) Q::fetch_ahead(source, first_chunk, blocks_before, lane);

  // Rows behind the last head are that one again and come to nothing.
  const int size = static_cast<int>(call.layout.head_size);
  const int first_head = work.kv_head * call.group_heads + work.head_group * kHeadsOfBlock;
  const int count = min(kHeadsOfBlock, call.group_heads - work.head_group * kHeadsOfBlock);
  const int head = first_head + min(row, count - 1);
  Sight sight;
  const auto token_of = [&](int chunk, int t) {  // this lane's four tokens of a chunk
    return chunk * kChunk + 2 * column + t / 2 * 8 + t % 2;
  };
  const auto sees = [&](int token) {
    return token < work.length && (!kSparse || sight.sees(token));
  };

  // The chunks of this warp: every kWarps-th one that any of the heads sees.
  const auto visible_from = [&](int chunk) {
    if constexpr (kSparse)
      while (chunk < source.last_chunk &&
             !__any_sync(~0u, sees(token_of(chunk, 0)) || sees(token_of(chunk, 1)) ||
                                  sees(token_of(chunk, 2)) || sees(token_of(chunk, 3))))
        chunk += Q::kWarps;
    return chunk;
  };
  int chunk, next;  // `next`: to be fetched
  const auto begin = [&](int blocks) {
    queue.begin(first_chunk, blocks);
    chunk = next = visible_from(first_chunk);
    queue.look_up(next);
  };
  const auto advance = [&] {
    next = visible_from(next + Q::kWarps);
    queue.look_up(next);
  };
  if constexpr (kEarly) {
    begin(blocks_before);
#pragma unroll
    for (int stage = 0; stage < Q::kStages; ++stage) {
      queue.prepare(stage);
      advance();
    }
  }
  const T* const query = static_cast<const T*>(call.query) + work.sequence * call.query_stride +
                         static_cast<int64_t>(first_head + row) * size + 2 * column;
  wait_for_previous_kernel();

  if constexpr (kEarly) queue.send(0);
  // Behind the first copies, but before the others: answers come in the order of questions.
  const int length_now = work.said_length(call);
  const int blocks_now = kEarly ? Q::block_of(source, first_chunk, lane) : blocks_before;
  uint32_t queries[kSteps][2] = {};  // of this lane's head
  const auto read_query = [&](const auto& read) {
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i)
      if (row < count && i * 8 < size) queries[i / 2][i % 2] = read(query + i * 8);
  };
  if (call.aligned)
    read_query([](const T* from) { return *reinterpret_cast<const uint32_t*>(from); });
  else
    read_query([](const T* from) { return pair(from[0], from[1]); });
  uint2* const shared_queries =
      reinterpret_cast<uint2*>(queues + kQueries + warp * kQueryBytes<kSize>) + lane;
  if constexpr (kQueryBytes<kSize> != 0) {
#pragma unroll
    for (int i = 0; i < kSteps; ++i) shared_queries[i * 32] = {queries[i][0], queries[i][1]};
    __syncwarp();
  }
  const auto query_of = [&](int i) {
    return kQueryBytes<kSize> != 0 ? shared_queries[i * 32] : uint2{queries[i][0], queries[i][1]};
  };
  bool again = true;
  if constexpr (kEarly) {
#pragma unroll
    for (int stage = 1; stage < Q::kStages; ++stage) queue.send(stage);
    again = __any_sync(~0u, length_now != length_before || blocks_now != blocks_before);
    if (again) [[unlikely]] {  // what has been fetched is of no use
#pragma unroll 1
      for (int stage = 0; stage < Q::kStages; ++stage) {
        queue.wait_for_keys(stage);
        queue.wait_for_values(stage);
      }
      __syncwarp();  // every lane has seen the phases end before the next ones begin
      queue.next_round();
    }
  }
  if (again) {
    work.set_length(call, length_now);
    source.set(work);
    first_chunk = work.begin / kChunk + warp;
    if constexpr (kSparse) sight = Sight(call, work, head);
    begin(Q::block_of(source, first_chunk, lane));
#pragma unroll 1
    for (int stage = 0; stage < Q::kStages; ++stage) {
      queue.fetch_keys(stage);
      queue.fetch_values(stage);
      advance();
    }
  }
  const int length = work.length, last_chunk = source.last_chunk;
  const Bias bias(call, work, head);
  const bool biased = call.alibi_slopes != nullptr;

  const float scale = call.scale * static_cast<float>(M_LOG2E);
  // `maximum`: the reference, or -inf before there is one. `total`: of this lane's tokens.
  float maximum = -INFINITY, reference = 0.0f, total = 0.0f;
  float sums[kSize / 8][4];
#pragma unroll
  for (int i = 0; i < kSize / 8; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] = 0.0f;

  if (call.clusters) wait_for_cluster();  // now that copies are under way
#pragma unroll 1
  for (int stage = 0; chunk < last_chunk;) {
    queue.wait_for_keys(stage);
    float products[2][2][4] = {};  // [chain of additions][tokens 0-7 | 8-15]
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t k[4];
      load_matrices(k, queue.keys(stage, i));
      const uint2 own = query_of(i);
      const uint32_t q[4] = {own.x, 0, own.y, 0};
      multiply_add<T>(products[i % 2][0], q, {k[0], k[1]});
      multiply_add<T>(products[i % 2][1], q, {k[2], k[3]});
    }
    __syncwarp();
    queue.fetch_keys(stage);

    float logits[4], largest = -INFINITY;
#pragma unroll
    for (int t = 0; t < 4; ++t)
      logits[t] = (products[0][t / 2][t % 2] + products[1][t / 2][t % 2]) * scale;
    if (biased)
#pragma unroll
      for (int t = 0; t < 4; ++t) logits[t] += bias.at(token_of(chunk, t));
    const int rest = length - chunk * kChunk;  // tokens from this chunk on
    if (kSparse || rest < kChunk)
#pragma unroll
      for (int t = 0; t < 4; ++t)
        if (!sees(token_of(chunk, t))) logits[t] = -INFINITY;
#pragma unroll
    for (int t = 0; t < 4; ++t) largest = fmaxf(largest, logits[t]);
    if (__any_sync(~0u, largest > maximum + kMostAhead)) {
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      const float newest = fmaxf(largest, maximum), factor = rescale(maximum, newest);
      maximum = newest;
      if (newest != -INFINITY) reference = newest;
      total *= factor;
#pragma unroll
      for (int i = 0; i < kSize / 8; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] *= factor;
    }
    uint32_t weights[4];  // P: high and low of tokens 0-7, then of 8-15
#pragma unroll
    for (int t = 0; t < 4; t += 2) {
      const float2 p{power_of_2(logits[t] - reference), power_of_2(logits[t + 1] - reference)};
      weights[t] = rounded_pair<T>(p);
      const float2 high = pair_to_floats<T>(weights[t]);
      weights[t + 1] = rounded_pair<T>({p.x - high.x, p.y - high.y});
      total += p.x + p.y;
    }

    queue.wait_for_values(stage);
    // Values behind the last token may be anything, NaN too.
    if (rest < kChunk) [[unlikely]]
      clear_values_behind<kSize>(rest, lane, [&](int i) { return queue.values(stage, i); });
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t v[4];
      load_matrices(v, queue.values(stage, i));
      multiply_add<T>(sums[2 * i], weights, {v[0], v[1]});
      multiply_add<T>(sums[2 * i + 1], weights, {v[2], v[3]});
    }
    __syncwarp();
    queue.fetch_values(stage);
    advance();
    // All that this warp reads is on its way, and the others are not far behind: blocks of the next
    // kernel may have the room soon. Not before, when they would take that of blocks that begin.
    if (next >= last_chunk) let_next_kernel_start();
    chunk = visible_from(chunk + Q::kWarps);
    if (++stage == Q::kStages) {
      stage = 0;
      queue.next_round();
    }
  }
  let_next_kernel_start();  // of warps that had nothing to read
  queue.wait_for_all();

  if constexpr (!Q::kRoomBehind) __syncthreads();  // every queue is empty
  put_together<T, kSize, Q::kWarps>(
      call, work, {first_head, count},
      reinterpret_cast<float*>(queues + (Q::kRoomBehind ? kBehind : 0)), cluster, sums, maximum,
      total, !work.valid || queue.missing());
}

}  // namespace vllm_ops::cuda
