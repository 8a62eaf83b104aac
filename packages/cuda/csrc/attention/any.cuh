// SPDX-License-Identifier: Apache-2.0
//
// Paged attention in plain float32 arithmetic: for float32, and for every layout that the tensor
// cores' kernel does not take. A tile of keys at a time: each thread computes the logits of one
// token, then each thread adds up the weighted values of some elements of the head.
#pragma once

#include "part.cuh"

namespace vllm_ops::cuda {

/// Threads of a block, and tokens of a tile.
constexpr int kTile = 128;

/// Floats of shared memory that a block needs for `heads` heads: queries, sums, and weights.
inline int64_t any_shared_floats(int64_t heads, int64_t head_size) {
  return heads * (2 * head_size + kTile);
}

/// The largest head that fits into the shared memory that every kernel has (48 KiB), less the
/// fixed-size arrays.
inline int64_t any_largest_head() { return (46 * 1024 / 4 - kTile) / 2 / 8 * 8; }

/// kN elements are read at once: 16 bytes of them where keys, values and blocks are aligned so.
template <typename T, int kHeads, int kN>
__global__ void __launch_bounds__(kTile) attend_any(const __grid_constant__ AttentionKernel call) {
  extern __shared__ float shared[];
  __shared__ int64_t value_of[kTile];  // places of the tile's tokens in the value cache; -1: none
  __shared__ float warp_maxima[kTile / 32][kHeads];
  const int64_t size = call.layout.head_size, row = call.layout.block_size, x = call.layout.x;
  float* const queries = shared;                // [kHeads, size]
  float* const sums = queries + kHeads * size;  // [kHeads, size]
  float* const weights = sums + kHeads * size;  // [kHeads, kTile]
  const int thread = threadIdx.x, lane = thread % 32;
  let_next_kernel_start();
  wait_for_previous_kernel();

  Work work(call, blockIdx.x);
  work.set_length(call, work.said_length(call));
  const int first = work.kv_head * call.group_heads + work.head_group * kHeads;
  const int count = min(kHeads, call.group_heads - work.head_group * kHeads);
  const T* const query =
      static_cast<const T*>(call.query) + work.sequence * call.query_stride + first * size;
  for (int64_t i = thread; i < kHeads * size; i += kTile) {
    queries[i] = i < count * size ? to_float(query[i]) : 0.0f;
    sums[i] = 0.0f;
  }
  bool missing = !work.valid;  // this thread has met a block that does not exist
  __syncthreads();

  const T* const keys =
      static_cast<const T*>(call.key_cache) + work.kv_head * call.layout.key_head_stride;
  const T* const values =
      static_cast<const T*>(call.value_cache) + work.kv_head * call.layout.value_head_stride;
  const int32_t* const table = call.block_tables + work.sequence * call.block_table_stride;
  const float scale = call.scale * static_cast<float>(M_LOG2E);
  float maximum[kHeads], total[kHeads];  // `total`: of this thread's tokens
#pragma unroll
  for (int h = 0; h < kHeads; ++h) maximum[h] = -INFINITY, total[h] = 0.0f;

  for (int tile = work.begin; tile < work.end; tile += kTile) {
    const int token = tile + thread;
    const bool inside = token < work.end;
    const Slot slot = inside ? slot_of(call, table, token) : Slot{-1, 0};
    const bool present = inside && exists(call, slot.block);
    missing |= inside && !present;
    value_of[thread] =
        present ? slot.block * call.layout.value_block_stride + slot.place : int64_t{-1};

    float products[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) products[h] = 0.0f;
    if (present) {
      const T* const key = keys + slot.block * call.layout.key_block_stride + slot.place * x;
#pragma unroll 4
      for (int64_t d = 0; d < size; d += kN) {
        // Pieces of x elements; kN is x or 1.
        const Vector<T, kN> k = load<kN>(kN == 1 ? key + d / x * row * x + d % x : key + d * row);
        // Short sums of their own lose less than one long one.
        float piece[kHeads] = {};
#pragma unroll
        for (int i = 0; i < kN; ++i) {
          const float element = to_float(k[i]);
#pragma unroll
          for (int h = 0; h < kHeads; ++h) piece[h] += element * queries[h * size + d + i];
        }
#pragma unroll
        for (int h = 0; h < kHeads; ++h) products[h] += piece[h];
      }
    }

    // The largest logit so far, of the whole block.
    float bias[kHeads], newest[kHeads];
    bool seen[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const int head = first + min(h, count - 1);
      seen[h] = present && Sight(call, work, head).sees(token);
      bias[h] = Bias(call, work, head).at(token);
      newest[h] = seen[h] ? fmaf(products[h], scale, bias[h]) : -INFINITY;
      for (int step = 16; step > 0; step /= 2)
        newest[h] = fmaxf(newest[h], __shfl_xor_sync(~0u, newest[h], step));
      if (lane == 0) warp_maxima[thread / 32][h] = newest[h];
    }
    __syncthreads();
    float factor[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      newest[h] = maximum[h];
      for (int w = 0; w < kTile / 32; ++w) newest[h] = fmaxf(newest[h], warp_maxima[w][h]);
      factor[h] = rescale(maximum[h], newest[h]);
      maximum[h] = newest[h];
      const float weight =
          seen[h] ? exp2f(fmaf(products[h], scale,
                               bias[h] - (maximum[h] == -INFINITY ? 0.0f : maximum[h])))
                  : 0.0f;
      weights[h * kTile + thread] = weight;
      total[h] = total[h] * factor[h] + weight;
    }
    __syncthreads();

    const int tokens = min(kTile, work.end - tile);
    for (int64_t d = thread; d < size; d += kTile) {
      float sum[kHeads];
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sum[h] = sums[h * size + d] * factor[h];
#pragma unroll 4
      for (int t = 0; t < tokens; t += kN) {
        const int64_t place = value_of[t];
        if (place < 0) continue;
        const Vector<T, kN> v = load<kN>(values + place + d * row);
#pragma unroll
        for (int i = 0; i < kN; ++i) {
          // What lies behind the last token may be anything, NaN too.
          const float element = t + i < tokens ? to_float(v[i]) : 0.0f;
#pragma unroll
          for (int h = 0; h < kHeads; ++h) sum[h] += weights[h * kTile + t + i] * element;
        }
      }
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sums[h * size + d] = sum[h];
    }
    __syncthreads();
  }

  // The totals of all threads, by the memory that held maxima.
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    total[h] = warp_sum(total[h]);
    if (lane == 0) warp_maxima[thread / 32][h] = total[h];
  }
  missing = __syncthreads_or(missing);
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    total[h] = 0.0f;
    for (int w = 0; w < kTile / 32; ++w) total[h] += warp_maxima[w][h];
    if (missing) total[h] = NAN;
    if (h < count)
      for (int64_t d = thread * kPutElements; d < size; d += kTile * kPutElements) {
        PutFloats sum;
#pragma unroll
        for (int e = 0; e < kPutElements; ++e) sum[e] = sums[h * size + d + e];
        put<T>(call, work, first + h, static_cast<int>(d), sum, maximum[h], total[h]);
      }
  }
}

}  // namespace vllm_ops::cuda
