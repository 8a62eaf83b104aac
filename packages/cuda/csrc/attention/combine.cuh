// SPDX-License-Identifier: Apache-2.0
//
// Puts the parts of each sequence together: out = sum_p f_p sums_p / sum_p f_p totals_p with
// f_p = 2^(maximum_p - maximum). A block for each head, whose warps take kCombineAhead parts each;
// their sums are added in a fixed order. Next to nothing is computed, so what counts is that
// everything is under way at once, and that blocks are small: they run beside those that read, and
// leave room for the next call's. Nothing is read before the kernel that wrote the parts has ended,
// but the launch itself overlaps with it.
#pragma once

#include "part.cuh"

namespace vllm_ops::cuda {

constexpr int kMostCombineWarps = 8, kCombineAhead = 8;

/// Warps of a block: as many as it takes for all parts to be loaded at once.
inline unsigned combine_warps(int64_t parts) {
  return static_cast<unsigned>(
      std::min<int64_t>(ceil_div(parts, kCombineAhead), kMostCombineWarps));
}

template <typename T>
__global__ void __launch_bounds__(32 * kMostCombineWarps)
    combine_parts(const __grid_constant__ AttentionKernel call) {
  __shared__ PutFloats warp_sums[kMostCombineWarps][32];
  let_next_kernel_start();
  const int64_t pair = blockIdx.x, sequence = pair / call.heads;  // a sequence's head
  const int lane = threadIdx.x, warp = threadIdx.y, warps = static_cast<int>(blockDim.y);
  const int64_t size = call.layout.head_size;
  const float* const maxima = call.maxima + pair * call.parts;
  const float* const totals = call.totals + pair * call.parts;
  const float* const sums = call.sums + pair * call.parts * size + lane * kPutElements;
  // This warp's parts, of which the first kCombineAhead are on their way at once.
  const auto part_of = [&](int i) { return warp + i * warps; };
  // Where they are to be found takes longer than to read them: many pages have been read since.
  fetch_line(lane % 2 == 0 ? maxima : totals);
  if (lane < kCombineAhead && part_of(lane) < call.parts)
    fetch_line(call.sums + (pair * call.parts + part_of(lane)) * size);
  fetch_line(static_cast<const T*>(call.out) + sequence * call.out_stride +
             pair % call.heads * size);
  wait_for_previous_kernel();

  Vector<float, kPutElements> first_sums[kCombineAhead];
  float first_maxima[kCombineAhead];
#pragma unroll
  for (int i = 0; i < kCombineAhead; ++i) {
    const int p = part_of(i);
    if (p >= call.parts) continue;
    first_maxima[i] = __ldcg(maxima + p);
    if (lane * kPutElements < size) first_sums[i] = load_once<kPutElements>(sums + p * size);
  }

  // Every warp for itself, in the same order: none has to wait for another's maximum or total.
  float maximum = -INFINITY, total = 0.0f;
  const bool near = lane < call.parts;
  const float near_maximum = near ? maxima[lane] : -INFINITY, near_total = near ? totals[lane] : 0;
  maximum = near_maximum;
  for (int p = lane + 32; p < call.parts; p += 32) maximum = fmaxf(maximum, maxima[p]);
  for (int step = 16; step > 0; step /= 2)
    maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
  const auto add = [&](float part_maximum, float part) {
    // NaN stays: it marks what could not be computed, though there may be no maximum.
    total += part != part ? part : rescale(part_maximum, maximum) * part;
  };
  add(near_maximum, near_total);
  for (int p = lane + 32; p < call.parts; p += 32) add(maxima[p], totals[p]);
  for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);

  for (int64_t first = 0; first < size; first += 32 * kPutElements) {
    const bool inside = first + lane * kPutElements < size;
    PutFloats sum{};
    const auto weigh = [&](const Vector<float, kPutElements>& values, float part_maximum) {
      const float factor = rescale(part_maximum, maximum);
#pragma unroll
      for (int e = 0; e < kPutElements; ++e) sum[e] += factor * values.values[e];
    };
    if (inside) {
#pragma unroll
      for (int i = 0; i < kCombineAhead; ++i) {
        const int p = part_of(i);
        if (p < call.parts)
          weigh(first == 0 ? first_sums[i] : load<kPutElements>(sums + first + p * size),
                first_maxima[i]);
      }
      for (int p = part_of(kCombineAhead); p < call.parts; p += warps)
        weigh(load<kPutElements>(sums + first + p * size), maxima[p]);
    }
    if (warps > 1) {
      warp_sums[warp][lane] = sum;
      __syncthreads();
      for (int w = 1; w < warps && warp == 0; ++w)
#pragma unroll
        for (int e = 0; e < kPutElements; ++e) sum[e] += warp_sums[w][lane][e];
      __syncthreads();  // before the next elements
    }
    if (warp == 0 && inside)
      put_result<T>(call, sequence, pair % call.heads, first + lane * kPutElements, sum, total);
  }
}

}  // namespace vllm_ops::cuda
