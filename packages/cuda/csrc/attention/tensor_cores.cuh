// SPDX-License-Identifier: Apache-2.0
//
// Paged attention of 16-bit elements on tensor cores, at the speed of memory. A warp takes every
// kWarps-th chunk of 16 tokens of the block's part, out of its queue of chunks on their way; the
// warps' results are put together at the end. Products are of 16 tokens or 16 elements of a head by
// 8 query heads:
//   S^T [16 tokens, 8 heads] += K [16, 16 elements] Q^T    O^T [16 elements, 8] += V^T [16, 16] P^T
// The caches' layouts are what ldmatrix wants: pieces of 8 elements, rows of 8 tokens. Weights are
// split into a sum of two 16-bit numbers, so that only the result is rounded. Fragments as in
// mma.cuh: lane = 4 row + column throughout.
#pragma once

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

__device__ inline uint32_t transpose(uint32_t m) {
  uint32_t transposed;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(m));
  return transposed;
}

/// Heads that a block works on.
struct Heads {
  int first, count;
};

/// Floats of a head of the warps' sums in shared memory: in different banks, by 16 bytes.
template <int kSize>
constexpr int kSumsRow = kSize + 4;

/// Floats of shared memory in which the warps' results are put together.
template <int kSize, int kWarps>
constexpr int kResultFloats = kWarps * kHeadsOfBlock * (kSumsRow<kSize> + 2);

/// Puts the results of a block's warps together and writes them. Each warp has sums O^T, the maxima
/// of this lane's two heads, and its row's part of their totals. `memory`: kResultFloats that no
/// warp uses any more.
template <typename T, int kSize, int kWarps>
__device__ __forceinline__ void put_together(const AttentionKernel& call, const Work& work,
                                             const Heads& heads, float* memory,
                                             const float (&sums)[kSize / 16][4],
                                             const float (&maximum)[2], float (&total)[2],
                                             bool missing) {
  constexpr int kRow = kSumsRow<kSize>;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  // Sums [warps, heads, kRow], then maxima and totals [warps, heads].
  float* const all_sums = memory;
  float* const all_maxima = all_sums + kWarps * kHeadsOfBlock * kRow;
  float* const all_totals = all_maxima + kWarps * kHeadsOfBlock;
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) total[h] += __shfl_xor_sync(~0u, total[h], step);
    const int place = warp * kHeadsOfBlock + column * 2 + h;
    if (row == 0) all_maxima[place] = maximum[h], all_totals[place] = total[h];
#pragma unroll
    for (int i = 0; i < kSize / 16; ++i) {
      all_sums[place * kRow + i * 16 + row] = sums[i][h];
      all_sums[place * kRow + i * 16 + row + 8] = sums[i][2 + h];
    }
  }
  __syncthreads();
  // A thread puts kPutElements of a head together.
  const int size = static_cast<int>(call.layout.head_size);
#pragma unroll 1
  for (int i = threadIdx.x * kPutElements; i < heads.count * size;
       i += 32 * kWarps * kPutElements) {
    const int head = i / size, d = i % size;
    float most = -INFINITY, all = 0.0f;
    PutFloats sum{};
#pragma unroll
    for (int w = 0; w < kWarps; ++w) most = fmaxf(most, all_maxima[w * kHeadsOfBlock + head]);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const int place = w * kHeadsOfBlock + head;
      const float f = rescale(all_maxima[place], most), part = all_totals[place];
      all += part != part ? part : f * part;
      const auto values = load<kPutElements>(all_sums + place * kRow + d);
#pragma unroll
      for (int e = 0; e < kPutElements; ++e) sum[e] += f * values.values[e];
    }
    put<T>(call, work, heads.first + head, d, sum, most, missing ? NAN : all);
  }
}

/// kSparse: some head does not see all keys.
template <typename T, int kSize, template <typename, int> typename Queue, bool kSparse>
__global__ void __launch_bounds__(32 * Queue<T, kSize>::kWarps,
                                  Queue<T, kSize>::kBlocksPerMultiprocessor)
    attend_tensor_cores(const __grid_constant__ AttentionKernel call) {
  using Q = Queue<T, kSize>;
  constexpr int kSteps = kSize / 16;  // of 16 elements of a head
  static_assert(kResultFloats<kSize, Q::kWarps> * sizeof(float) <= Q::kShared);
  extern __shared__ __align__(128) unsigned char queues[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  // Everything up to the first copies is got ready while the kernel before this one ends, by what
  // lengths and blocks are now. Whether that kernel changed them is seen when the copies have been
  // started. With sparsity the first chunks may lie behind the blocks that are known by then.
  constexpr bool kEarly = Q::kEarly && !kSparse;
  Work work(call, blockIdx.x);
  const int length_before = work.said_length(call);
  work.set_length(call, length_before);
  ChunkSource<T> source(call, work);
  Q queue(source, queues, warp, lane);
  int first_chunk = work.begin / kChunk + warp;
  const int blocks_before = Q::block_of(source, first_chunk, lane);
  if (blockIdx.x < call.at_once) Q::fetch_ahead(source, first_chunk, blocks_before, lane);

  // This lane's columns of S^T and O^T are two heads; those behind the last one are that one again
  // and come to nothing.
  const int size = static_cast<int>(call.layout.head_size);
  const int first_head = work.kv_head * call.group_heads + work.head_group * kHeadsOfBlock;
  const int count = min(kHeadsOfBlock, call.group_heads - work.head_group * kHeadsOfBlock);
  const int heads[2] = {first_head + min(2 * column, count - 1),
                        first_head + min(2 * column + 1, count - 1)};
  Sight sights[2];
  const auto sees = [&](int chunk, int t, int head) {  // row t of the chunk
    const int token = chunk * kChunk + t;
    return token < work.length && (!kSparse || sights[head].sees(token));
  };

  // The chunks of this warp: every kWarps-th one that any of the heads sees.
  const auto visible_from = [&](int chunk) {
    if constexpr (kSparse)
      while (chunk < source.last_chunk &&
             !__any_sync(~0u, sees(chunk, row, 0) || sees(chunk, row, 1) ||
                                  sees(chunk, row + 8, 0) || sees(chunk, row + 8, 1)))
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
  uint32_t queries[kSteps][2] = {};  // Q^T: this lane's head is `row`
  const auto read_query = [&](const auto& read) {
#pragma unroll
    for (int i = 0; i < 2 * kSteps; ++i)
      if (row < count && i * 8 < size) queries[i / 2][i % 2] = read(query + i * 8);
  };
  if (call.aligned)
    read_query([](const T* from) { return *reinterpret_cast<const uint32_t*>(from); });
  else
    read_query([](const T* from) { return pair(from[0], from[1]); });
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
    if constexpr (kSparse)
      for (int h = 0; h < 2; ++h) sights[h] = Sight(call, work, heads[h]);
    begin(Q::block_of(source, first_chunk, lane));
#pragma unroll 1
    for (int stage = 0; stage < Q::kStages; ++stage) {
      queue.fetch_keys(stage);
      queue.fetch_values(stage);
      advance();
    }
  }
  const int length = work.length, last_chunk = source.last_chunk;
  const Bias biases[2] = {Bias(call, work, heads[0]), Bias(call, work, heads[1])};

  const float scale = call.scale * static_cast<float>(M_LOG2E);
  float maximum[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};  // `total`: of this row
  float sums[kSteps][4];
#pragma unroll
  for (int i = 0; i < kSteps; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] = 0.0f;

  for (int stage = 0; chunk < last_chunk;) {
    queue.wait_for_keys(stage);
    float products[2][4] = {};  // two chains of additions
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t k[4];
      load_matrices(k, queue.keys(stage, i));
      multiply_add<T>(products[i % 2], k, queries[i]);
    }
    __syncwarp();
    queue.fetch_keys(stage);

    uint32_t weights[2][2];    // P^T, the larger and the smaller 16 bits, as [tokens 0-7 | 8-15]
    float factor[2], p[2][2];  // p: [tokens row | row + 8][head]
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float product[2], bias[2];
      bool seen[2];
      float newest = maximum[h];
#pragma unroll
      for (int t = 0; t < 2; ++t) {
        product[t] = products[0][2 * t + h] + products[1][2 * t + h];
        bias[t] = biases[h].at(chunk * kChunk + row + 8 * t);
        seen[t] = sees(chunk, row + 8 * t, h);
        newest = fmaxf(newest, seen[t] ? fmaf(product[t], scale, bias[t]) : -INFINITY);
      }
#pragma unroll
      for (int step = 4; step < 32; step *= 2)
        newest = fmaxf(newest, __shfl_xor_sync(~0u, newest, step));
      factor[h] = rescale(maximum[h], newest);
      maximum[h] = newest;
      const float reference = newest == -INFINITY ? 0.0f : newest;
#pragma unroll
      for (int t = 0; t < 2; ++t)
        p[t][h] = seen[t] ? exp2f(fmaf(product[t], scale, bias[t] - reference)) : 0.0f;
      total[h] = total[h] * factor[h] + (p[0][h] + p[1][h]);
    }
#pragma unroll
    for (int t = 0; t < 2; ++t) {
      T high[2], low[2];
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        high[h] = from_float<T>(p[t][h]);
        low[h] = from_float<T>(p[t][h] - to_float(high[h]));
      }
      weights[0][t] = transpose(pair(high[0], high[1]));
      weights[1][t] = transpose(pair(low[0], low[1]));
    }
    if (__any_sync(~0u, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
      for (int i = 0; i < kSteps; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] *= factor[j % 2];
    }

    queue.wait_for_values(stage);
    // Values behind the last token may be anything, NaN too. This lane holds those of tokens
    // 2 column + {0, 1, 8, 9}.
    const int rest = length - chunk * kChunk - column * 2;
    const uint32_t masks[2] = {(rest > 0 ? 0xffffu : 0u) | (rest > 1 ? 0xffff0000u : 0u),
                               (rest > 8 ? 0xffffu : 0u) | (rest > 9 ? 0xffff0000u : 0u)};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t v[4];
      load_matrices(v, queue.values(stage, i));
      v[0] &= masks[0], v[1] &= masks[0], v[2] &= masks[1], v[3] &= masks[1];
      multiply_add<T>(sums[i], v, weights[0]);
      multiply_add<T>(sums[i], v, weights[1]);
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

  const bool missing = __syncthreads_or(!work.valid || queue.missing());  // every queue is empty
  put_together<T, kSize, Q::kWarps>(call, work, {first_head, count},
                                    reinterpret_cast<float*>(queues), sums, maximum, total,
                                    missing);
}

}  // namespace vllm_ops::cuda
