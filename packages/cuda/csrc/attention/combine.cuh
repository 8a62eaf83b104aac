// SPDX-License-Identifier: Apache-2.0
//
// Puts the parts of each sequence together: out = sum_p f_p sums_p / sum_p f_p totals_p with
// f_p = 2^(maximum_p - maximum). A block for each head; its rows of threads take parts in turn, and
// their sums are added in a fixed order. Next to nothing is computed, so what counts is that
// everything is under way at once: a thread's first kCombineAhead sums are loaded beside the maxima
// and totals. Nothing is read before the kernel that wrote the parts has ended, but the launch
// itself overlaps with it.
#pragma once

#include "part.cuh"

namespace vllm_ops::cuda {

constexpr int kCombineThreads = 128, kMostCombineRows = 8, kCombineAhead = 8;

/// Rows of a block's threads: as many as it takes for all parts to be loaded ahead.
inline unsigned combine_rows(int64_t parts) {
  return static_cast<unsigned>(std::min<int64_t>(ceil_div(parts, kCombineAhead), kMostCombineRows));
}

template <typename T>
__global__ void __launch_bounds__(kCombineThreads* kMostCombineRows)
    combine_parts(const __grid_constant__ AttentionKernel call) {
  extern __shared__ float factors[];  // [parts]
  __shared__ float row_sums[kMostCombineRows][kCombineThreads];
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t pair = blockIdx.x;  // sequence and head
  const int thread = threadIdx.x + threadIdx.y * kCombineThreads, lane = thread % 32;
  const int rows = static_cast<int>(blockDim.y);
  const float* const maxima = call.maxima + pair * call.parts;
  const float* const totals = call.totals + pair * call.parts;
  const int64_t size = call.layout.head_size, head = pair % call.heads;
  const float* const sums = call.sums + pair * call.parts * size;
  float first_sums[kCombineAhead];
#pragma unroll
  for (int i = 0; i < kCombineAhead; ++i) {
    const int p = threadIdx.y + i * rows;
    first_sums[i] = p < call.parts && threadIdx.x < size ? sums[p * size + threadIdx.x] : 0.0f;
  }

  // Every warp for itself, in the same order: no thread has to wait for another's maximum or total.
  const auto at = [&](const float* values, int p, float none) {
    return p < call.parts ? values[p] : none;
  };
  const float near[2] = {at(maxima, lane, -INFINITY), at(maxima, lane + 32, -INFINITY)};
  const float near_totals[2] = {at(totals, lane, 0.0f), at(totals, lane + 32, 0.0f)};
  float maximum = fmaxf(near[0], near[1]);
  for (int p = lane + 64; p < call.parts; p += 32) maximum = fmaxf(maximum, maxima[p]);
  for (int step = 16; step > 0; step /= 2)
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
  float total = 0.0f;
  const auto add = [&](int p, float part_maximum, float part) {
    const float factor = rescale(part_maximum, maximum);
    // NaN stays: it marks what could not be computed, though there may be no maximum.
    total += part != part ? part : factor * part;
    if (thread < 32 && p < call.parts) factors[p] = factor;
  };
  add(lane, near[0], near_totals[0]);
  add(lane + 32, near[1], near_totals[1]);
  for (int p = lane + 64; p < call.parts; p += 32) add(p, maxima[p], totals[p]);
  for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
  __syncthreads();

  T* const out = static_cast<T*>(call.out) + pair / call.heads * call.out_stride + head * size;
  for (int64_t first = 0; first < size; first += kCombineThreads) {
    const int64_t d = first + threadIdx.x;
    float sum = 0.0f;
    if (d < size) {
#pragma unroll
      for (int i = 0; i < kCombineAhead; ++i) {
        const int p = threadIdx.y + i * rows;
        if (p < call.parts) sum += factors[p] * (first == 0 ? first_sums[i] : sums[p * size + d]);
      }
#pragma unroll 4
      for (int p = threadIdx.y + kCombineAhead * rows; p < call.parts; p += rows)
        sum += factors[p] * sums[p * size + d];
    }
    row_sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && d < size) {
      for (int row = 1; row < rows; ++row) sum += row_sums[row][threadIdx.x];
      out[d] = from_float<T>(total == 0.0f ? 0.0f : sum / total);
    }
    __syncthreads();
  }
}

}  // namespace vllm_ops::cuda
