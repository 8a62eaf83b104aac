// SPDX-License-Identifier: Apache-2.0
//
// Puts the parts of each sequence together: out = sum_p f_p sums_p / sum_p f_p totals_p with
// f_p = 2^(maximum_p - maximum). A block for each head; rows of its threads take every kRows-th
// part, and their sums are added in a fixed order. Nothing is read before the kernel that wrote the
// parts has ended, but the launch itself overlaps with it.
#pragma once

#include "part.cuh"

namespace vllm_ops::cuda {

constexpr int kCombineThreads = 128, kCombineRows = 4;

template <typename T>
__global__ void __launch_bounds__(kCombineThreads* kCombineRows)
    combine_parts(const __grid_constant__ AttentionKernel call) {
  extern __shared__ float factors[];  // [parts]
  __shared__ float row_sums[kCombineRows][kCombineThreads];
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t pair = blockIdx.x;  // sequence and head
  const int thread = threadIdx.x + threadIdx.y * kCombineThreads, lane = thread % 32;
  const float* const maxima = call.maxima + pair * call.parts;
  const float* const totals = call.totals + pair * call.parts;

  // Every warp for itself, in the same order: no thread has to wait for another's maximum or total.
  float maximum = -INFINITY;
  for (int p = lane; p < call.parts; p += 32) maximum = fmaxf(maximum, maxima[p]);
  for (int step = 16; step > 0; step /= 2)
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
  float total = 0.0f;
  for (int p = lane; p < call.parts; p += 32) {
    const float factor = rescale(maxima[p], maximum);
    // NaN stays: it marks what could not be computed, though there may be no maximum.
    const float part = totals[p];
    total += part != part ? part : factor * part;
    if (thread < 32) factors[p] = factor;
  }
  for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
  __syncthreads();

  const int64_t size = call.layout.head_size, head = pair % call.heads;
  T* const out = static_cast<T*>(call.out) + pair / call.heads * call.out_stride + head * size;
  const float* const sums = call.sums + pair * call.parts * size;
  for (int64_t first = 0; first < size; first += kCombineThreads) {
    const int64_t d = first + threadIdx.x;
    float sum = 0.0f;
    if (d < size) {
#pragma unroll 8
      for (int p = threadIdx.y; p < call.parts; p += kCombineRows)
        sum += factors[p] * sums[p * size + d];
    }
    row_sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && d < size) {
      for (int row = 1; row < kCombineRows; ++row) sum += row_sums[row][threadIdx.x];
      out[d] = from_float<T>(total == 0.0f ? 0.0f : sum / total);
    }
    __syncthreads();
  }
}

}  // namespace vllm_ops::cuda
