// SPDX-License-Identifier: Apache-2.0
//
// Paged attention of 16-bit elements on tensor cores, at the speed of memory. A warp has a queue of
// its own in shared memory, into which it copies 16 tokens' keys and values ahead of their use
// (cp.async), and takes every kWarps-th such chunk of the block's part; the warps' results are put
// together at the end. Products are of 16 tokens or 16 elements of a head by 8 query heads:
//   S^T [16 tokens, 8 heads] += K [16, 16 elements] Q^T    O^T [16 elements, 8] += V^T [16, 16] P^T
// The caches' layouts are what ldmatrix wants: pieces of 8 elements, rows of 8 tokens. Weights are
// split into a sum of two 16-bit numbers, so that only the result is rounded. Fragments
// as in mma.cuh: lane = 4 row + column throughout.
#pragma once

#include <vllm_ops/copy_async.cuh>
#include <vllm_ops/mma.cuh>

#include "part.cuh"

namespace vllm_ops::cuda {

/// Tokens that are worked on together, and query heads.
constexpr int kChunk = 16, kHeadsOfBlock = 8;

/// What a block needs for heads of up to kSize elements.
template <int kSize>
struct TensorCoreBlock {
  static constexpr int kWarps = kSize <= 128 ? 4 : 2;
  static constexpr int kStages = kSize <= 64 ? 4 : 2;
  static constexpr int kBytes = kChunk * kSize * 2;  // a chunk of keys, or of values
  static constexpr int kShared = kWarps * kStages * 2 * kBytes;
  static constexpr int kBlocksPerMultiprocessor = 3;
  // Rows of the warps' sums: four more elements keep them in different banks.
  static constexpr int kRow = kSize + 4;
  static_assert(kWarps * kHeadsOfBlock * (kRow + 2) * sizeof(float) <= kShared);
};

/// Waits until no more than kPending of the latest groups of copies are under way in any lane.
template <int kPending>
__device__ inline void wait_for_warp_copies() {
  wait_for_copies<kPending>();
  __syncwarp();
}

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

/// Fetches a warp's first chunks of keys and values into the L2 cache while the kernel before this
/// one ends, from what lengths and blocks are now: if that kernel changes them, no more than this
/// was in vain. A lane takes a line of each chunk, 8 tokens by 8 elements of keys, or 64 values.
template <typename T, int kSize>
__device__ inline void fetch_ahead(const AttentionKernel& call, int warp, int lane) {
  using B = TensorCoreBlock<kSize>;
  const Work work = work_of(call, blockIdx.x);
  const int32_t* const table = call.block_tables + work.sequence * call.block_table_stride;
  const int64_t first_head = work.kv_head * call.group_heads + work.head_group * kHeadsOfBlock;
  const int heads = min(kHeadsOfBlock, call.group_heads - work.head_group * kHeadsOfBlock);
  const T* const query = static_cast<const T*>(call.query) + work.sequence * call.query_stride +
                         first_head * call.layout.head_size;
  if (warp == 0 && lane * 64 < heads * call.layout.head_size) fetch_line(query + lane * 64);
  Slot slots[B::kStages];
  int tokens[B::kStages];
#pragma unroll
  for (int i = 0; i < B::kStages; ++i) {
    tokens[i] = work.begin + (i * B::kWarps + warp) * kChunk + lane % 2 * 8;
    slots[i] = tokens[i] < work.end ? slot_of(call, table, tokens[i]) : Slot{-1, 0};
  }
#pragma unroll
  for (int i = 0; i < B::kStages; ++i) {
    if (!exists(call, slots[i].block)) continue;
    const int64_t block = slots[i].block, place = slots[i].place, rows = call.layout.block_size;
    const T* const keys = static_cast<const T*>(call.key_cache) +
                          work.kv_head * call.layout.key_head_stride +
                          block * call.layout.key_block_stride + place * 8;
    const T* const values =
        static_cast<const T*>(call.value_cache) + work.kv_head * call.layout.value_head_stride +
        block * call.layout.value_block_stride + max(place - lane % 2 * 8, int64_t{0});
    for (int line = lane; line < call.layout.head_size / 4; line += 32) {
      fetch_line(keys + line / 2 * rows * 8);
      fetch_line(values + static_cast<int64_t>(line) * 4 * rows);
    }
  }
}

/// A chunk's keys or values on their way: lane's part of it.
struct Fetch {
  int first;  // token of the sequence
  Slot slot;
};

template <typename T, int kSize>
__global__ void __launch_bounds__(32 * TensorCoreBlock<kSize>::kWarps,
                                  TensorCoreBlock<kSize>::kBlocksPerMultiprocessor)
    attend_tensor_cores(const __grid_constant__ AttentionKernel call) {
  using B = TensorCoreBlock<kSize>;
  constexpr int kSteps = kSize / 16;  // of 16 elements of a head
  extern __shared__ __align__(128) unsigned char queues[];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4, column = lane % 4;
  fetch_ahead<T, kSize>(call, warp, lane);
  // The next kernel does not start before the last blocks end: its waiting blocks would take the
  // room of ones that read, a quarter of the speed with many sequences.
  wait_for_previous_kernel();
  const Work work = work_of(call, blockIdx.x);
  const int size = static_cast<int>(call.layout.head_size), length = work.length;
  const int first_head = work.kv_head * call.group_heads + work.head_group * kHeadsOfBlock;
  const int count = min(kHeadsOfBlock, call.group_heads - work.head_group * kHeadsOfBlock);

  // This lane's columns of S^T and O^T are two heads; those behind the last one are that one again
  // and come to nothing.
  const int heads[2] = {first_head + min(2 * column, count - 1),
                        first_head + min(2 * column + 1, count - 1)};
  const Sight sights[2] = {Sight(call, work, heads[0]), Sight(call, work, heads[1])};
  const Bias biases[2] = {Bias(call, work, heads[0]), Bias(call, work, heads[1])};
  const auto sees = [&](int chunk, int t, int head) {  // row t of the chunk
    const int token = chunk * kChunk + t;
    return token < length && sights[head].sees(token);
  };

  // The chunks of this warp: every kWarps-th one that any of the heads sees.
  const int last_chunk = work.begin < work.end ? static_cast<int>(ceil_div(work.end, kChunk)) : 0;
  const auto visible_from = [&](int chunk) {
    if (call.sparse.stride != 0)
      while (chunk < last_chunk &&
             !__any_sync(~0u, sees(chunk, row, 0) || sees(chunk, row, 1) ||
                                  sees(chunk, row + 8, 0) || sees(chunk, row + 8, 1)))
        chunk += B::kWarps;
    return chunk;
  };

  // Half a chunk is 8 tokens of one block. A lane copies keys of token lane % 16, and values of
  // half lane % 2.
  const int32_t* const table = call.block_tables + work.sequence * call.block_table_stride;
  const T* const keys =
      static_cast<const T*>(call.key_cache) + work.kv_head * call.layout.key_head_stride;
  const T* const values =
      static_cast<const T*>(call.value_cache) + work.kv_head * call.layout.value_head_stride;
  const int64_t block_size = call.layout.block_size;
  bool missing = !work.valid;
  const auto look_up = [&](int chunk, int half) {
    const int first = chunk * kChunk + half * 8;
    const bool inside = chunk < last_chunk && first < length;
    return Fetch{first, inside ? slot_of(call, table, first) : Slot{-1, 0}};
  };
  const auto present = [&](int chunk, const Fetch& fetch) {
    const bool inside = chunk < last_chunk && fetch.first < length;
    const bool there = inside && exists(call, fetch.slot.block);
    missing |= inside && !there;
    return there;
  };
  const uint32_t queue =
      shared_address(queues) + static_cast<uint32_t>(warp * B::kStages * 2 * B::kBytes);
  const auto key_stage = [&](int stage) { return queue + stage * 2 * B::kBytes; };
  const auto value_stage = [&](int stage) { return queue + (stage * 2 + 1) * B::kBytes; };

  // [kSize / 8 pieces, 16 tokens, 8 elements]
  const auto fetch_keys = [&](int chunk, const Fetch& fetch, int stage) {
    const bool there = present(chunk, fetch);
    const T* const from =
        keys + (there ? fetch.slot.block * call.layout.key_block_stride +
                            (fetch.slot.place + lane % 8) * 8 + lane / 16 * block_size * 8
                      : 0);
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const bool piece = there && (2 * i + lane / 16) * 8 < size;
      copy_async(key_stage(stage) + i * 512 + lane * 16,
                 piece ? from + i * 2 * block_size * 8 : keys, piece);
    }
    commit_copies();
  };
  // [2 halves, kSize elements, 8 tokens]
  const auto fetch_values = [&](int chunk, const Fetch& fetch, int stage) {
    const bool there = present(chunk, fetch);
    const T* const from = values + (there ? fetch.slot.block * call.layout.value_block_stride +
                                                lane / 2 * block_size + fetch.slot.place
                                          : 0);
    const uint32_t to = value_stage(stage) + lane % 2 * (B::kBytes / 2) + lane / 2 * 16;
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const bool element = there && i * 16 + lane / 2 < size;
      copy_async(to + i * 256, element ? from + i * 16 * block_size : values, element);
    }
    commit_copies();
  };

  int next = visible_from(work.begin / kChunk + warp);  // the chunk to be fetched next
  Fetch next_keys = look_up(next, lane % 16 / 8), next_values = look_up(next, lane % 2);
  const auto advance = [&] {
    next = visible_from(next + B::kWarps);
    next_keys = look_up(next, lane % 16 / 8);
    next_values = look_up(next, lane % 2);
  };
  int chunk = next;
#pragma unroll
  for (int stage = 0; stage < B::kStages; ++stage) {
    fetch_keys(next, next_keys, stage);
    fetch_values(next, next_values, stage);
    advance();
  }

  uint32_t queries[kSteps][2];  // Q^T: this lane's head is `row`
  {
    const T* const query = static_cast<const T*>(call.query) + work.sequence * call.query_stride +
                           static_cast<int64_t>(first_head + row) * size;
#pragma unroll
    for (int i = 0; i < kSteps; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int d = i * 16 + half * 8 + column * 2;
        queries[i][half] = row < count && d < size ? pair(query[d], query[d + 1]) : 0;
      }
  }

  const float scale = call.scale * static_cast<float>(M_LOG2E);
  float maximum[2] = {-INFINITY, -INFINITY}, total[2] = {0.0f, 0.0f};  // `total`: of this row
  float sums[kSteps][4];
#pragma unroll
  for (int i = 0; i < kSteps; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) sums[i][j] = 0.0f;

  for (int stage = 0; chunk < last_chunk; stage = (stage + 1) % B::kStages) {
    // Two groups of copies for each stage are under way, these keys the oldest.
    wait_for_warp_copies<2 * B::kStages - 1>();
    float products[2][4] = {};  // two chains of additions
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t k[4];
      load_matrices(k, key_stage(stage) + i * 512 + lane * 16);
      multiply_add<T>(products[i % 2], k, queries[i]);
    }
    __syncwarp();
    fetch_keys(next, next_keys, stage);

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

    wait_for_warp_copies<2 * B::kStages - 1>();
    // Values behind the last token may be anything, NaN too. This lane holds those of tokens
    // 2 column + {0, 1, 8, 9}.
    const int rest = length - chunk * kChunk - column * 2;
    const uint32_t masks[2] = {(rest > 0 ? 0xffffu : 0u) | (rest > 1 ? 0xffff0000u : 0u),
                               (rest > 8 ? 0xffffu : 0u) | (rest > 9 ? 0xffff0000u : 0u)};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      uint32_t v[4];
      load_matrices(v, value_stage(stage) + lane / 16 * (B::kBytes / 2) + i * 256 + lane % 16 * 16);
      v[0] &= masks[0], v[1] &= masks[0], v[2] &= masks[1], v[3] &= masks[1];
      multiply_add<T>(sums[i], v, weights[0]);
      multiply_add<T>(sums[i], v, weights[1]);
    }
    __syncwarp();
    fetch_values(next, next_values, stage);
    advance();
    chunk = visible_from(chunk + B::kWarps);
  }
  wait_for_warp_copies<0>();

  // The warps' results: sums [warps, heads, kRow], then maxima and totals [warps, heads].
  float* const all_sums = reinterpret_cast<float*>(queues);
  float* const all_maxima = all_sums + B::kWarps * kHeadsOfBlock * B::kRow;
  float* const all_totals = all_maxima + B::kWarps * kHeadsOfBlock;
  missing = __syncthreads_or(missing);  // every queue is empty
  for (int h = 0; h < 2; ++h) {
#pragma unroll
    for (int step = 4; step < 32; step *= 2) total[h] += __shfl_xor_sync(~0u, total[h], step);
    const int place = warp * kHeadsOfBlock + column * 2 + h;
    if (row == 0) all_maxima[place] = maximum[h], all_totals[place] = total[h];
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      all_sums[place * B::kRow + i * 16 + row] = sums[i][h];
      all_sums[place * B::kRow + i * 16 + row + 8] = sums[i][2 + h];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count * size; i += 32 * B::kWarps) {
    const int head = i / size, d = i % size;
    float most = -INFINITY, sum = 0.0f, all = 0.0f;
#pragma unroll
    for (int w = 0; w < B::kWarps; ++w) most = fmaxf(most, all_maxima[w * kHeadsOfBlock + head]);
#pragma unroll
    for (int w = 0; w < B::kWarps; ++w) {
      const int place = w * kHeadsOfBlock + head;
      const float f = rescale(all_maxima[place], most), part = all_totals[place];
      all += part != part ? part : f * part;
      sum += f * all_sums[place * B::kRow + d];
    }
    put<T>(call, work, first_head + head, d, sum, most, missing ? NAN : all);
  }
}

}  // namespace vllm_ops::cuda
