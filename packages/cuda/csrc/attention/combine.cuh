// SPDX-License-Identifier: Apache-2.0
//
// Puts the parts of each sequence together: out = sum_p f_p sums_p / sum_p f_p totals_p with
// f_p = 2^(maximum_p - maximum). A block for each head, whose warps take parts in turn; their sums
// are added in a fixed order. Next to nothing is computed, so what counts is that everything is
// under way at once, that there is little code, which every multiprocessor has to fetch first, and
// that blocks are small: they wait on multiprocessors whose blocks of the kernel before have ended,
// many on each, and leave room there for the next call's. Nothing is read before the kernel that
// wrote the parts has ended.
#pragma once

#include "part.cuh"

namespace vllm_ops::cuda {

/// Warps of a block at most, and parts that each of them loads at once.
constexpr int kMostCombineWarps = 16, kCombineAhead = 4;
/// Elements that a warp takes at once.
constexpr int kCombineElements = 32 * kPutElements;

/// Warps of a block: as many as it takes for all parts to be loaded at once, up to the most.
inline unsigned combine_warps(int64_t parts) {
  return static_cast<unsigned>(
      std::min<int64_t>(ceil_div(parts, kCombineAhead), kMostCombineWarps));
}

/// Bytes of shared memory, where warps have to add up.
inline std::size_t combine_shared(unsigned warps) {
  return warps > 1 ? warps * kCombineElements * sizeof(float) : 0;
}

template <typename T>
__global__ void __launch_bounds__(32 * kMostCombineWarps)
    combine_parts(const __grid_constant__ AttentionKernel call) {
  extern __shared__ __align__(16) float warp_sums[];  // [warps, kCombineElements]
  let_next_kernel_start();
  const unsigned pair = blockIdx.x, heads = static_cast<unsigned>(call.heads);
  const unsigned sequence = pair / heads, head = pair % heads;
  const int lane = threadIdx.x, warp = threadIdx.y, warps = static_cast<int>(blockDim.y);
  const int size = static_cast<int>(call.layout.head_size), parts = call.parts;
  const float* const maxima = call.maxima + static_cast<int64_t>(pair) * parts;
  const float* const totals = call.totals + static_cast<int64_t>(pair) * parts;
  const float* const sums = call.sums + static_cast<int64_t>(pair) * parts * size;
  wait_for_previous_kernel();

  const bool near = lane < parts;
#pragma unroll 1
  for (int first = 0; first < size; first += kCombineElements) {
    const int d = first + lane * kPutElements;
    const bool inside = d < size;
    // Every warp for itself, in the same order: none has to wait for another's maximum or total.
    float maximum = near ? maxima[lane] : -INFINITY, total = near ? totals[lane] : 0.0f;
    PutFloats sum{};
#pragma unroll 1
    for (int i = 0; i < parts; i += warps * kCombineAhead) {
      Vector<float, kPutElements> values[kCombineAhead];
      float part_maxima[kCombineAhead];
#pragma unroll
      for (int k = 0; k < kCombineAhead; ++k) {
        const int p = min(i + k * warps + warp, parts - 1);
        part_maxima[k] = maxima[p];
        values[k] = load<kPutElements>(sums + static_cast<int64_t>(p) * size + (inside ? d : 0));
      }
      if (i == 0) {
        const float near_maximum = maximum;
#pragma unroll 1
        for (int p = lane + 32; p < parts; p += 32) maximum = fmaxf(maximum, maxima[p]);
#pragma unroll
        for (int step = 16; step > 0; step /= 2)
          maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, step));
        // NaN, which marks what could not be computed, stays it with any factor.
        total *= rescale(near_maximum, maximum);
#pragma unroll 1
        for (int p = lane + 32; p < parts; p += 32)
          total += rescale(maxima[p], maximum) * totals[p];
        total = warp_sum(total);
      }
#pragma unroll
      for (int k = 0; k < kCombineAhead; ++k) {
        if (i + k * warps + warp >= parts) break;
        const float factor = rescale(part_maxima[k], maximum);
#pragma unroll
        for (int e = 0; e < kPutElements; ++e) sum[e] += factor * values[k].values[e];
      }
    }
    if (warps > 1) {
      const auto own =
          reinterpret_cast<float4*>(warp_sums + warp * kCombineElements + lane * kPutElements);
      *own = float4{sum[0], sum[1], sum[2], sum[3]};
      __syncthreads();
      if (warp == 0)
#pragma unroll 2
        for (int w = 1; w < warps; ++w) {
          const auto other =
              load<kPutElements>(warp_sums + w * kCombineElements + lane * kPutElements);
#pragma unroll
          for (int e = 0; e < kPutElements; ++e) sum[e] += other.values[e];
        }
      __syncthreads();  // before the next elements
    }
    if (warp == 0 && inside) put_result<T>(call, sequence, static_cast<int>(head), d, sum, total);
  }
}

}  // namespace vllm_ops::cuda
