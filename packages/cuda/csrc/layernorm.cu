// SPDX-License-Identifier: Apache-2.0
//
// rms_norm: out = x / sqrt(mean(x²) + epsilon) * weight over a row.
// fused_add_rms_norm: residual = input + residual, then input = rms_norm(residual): the norm is
// that of the sum as it was rounded, so that the next layer sees the same residual.
// Bound by memory. A block does a row and holds it in registers between its two passes, so that
// every element is read once; rows that are too wide or not made of whole vectors are read again
// instead, out of the cache. float32 inside, one rounding at each store. Definition: vLLM's
// RMSNorm.

#include <vllm_ops/kernel.h>
#include <vllm_ops/layernorm.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

constexpr int kWarp = 32;
/// Threads of a block at most, and of one that has a multiprocessor to itself.
constexpr int kMaxThreads = 512, kAloneThreads = 1024;
/// Vectors of a row that a thread holds at most.
constexpr int kMostItems = 8;
/// Up to so many vectors a thread, weights are loaded before the sum is known, beside the row.
constexpr int kEarlyWeightItems = 2;
/// Full blocks that a multiprocessor is to have room for, so that some rows load while others add
/// up: a limit for the compiler's use of registers.
template <bool kAdd, int kItems, int kThreads>
constexpr int kResident = kThreads == kAloneThreads      ? 1
                          : kItems <= 2                  ? 3
                          : kAdd && kItems == kMostItems ? 1
                                                         : 2;

/// The sum of `x` over all threads of the block, for each of them. All have to call it.
__device__ inline float block_sum(float x) {
  __shared__ float partial[kAloneThreads / kWarp];
  x = warp_sum(x);
  const unsigned warps = blockDim.x / kWarp, lane = threadIdx.x % kWarp;
  if (warps == 1) return x;
  if (lane == 0) partial[threadIdx.x / kWarp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? partial[lane] : 0.0f);
}

/// x becomes x + added, rounded.
template <typename T, int N>
__device__ inline void add_rounded(Vector<T, N>& x, const Vector<T, N>& added) {
  Floats<N> sum = to_floats(x);
  const Floats<N> other = to_floats(added);
#pragma unroll
  for (int i = 0; i < N; ++i) sum[i] += other[i];
  x = from_floats<T>(sum);
}

template <typename T, int N>
__device__ inline float sum_of_squares(const Vector<T, N>& x, float sum) {
  const Floats<N> values = to_floats(x);
#pragma unroll
  for (int i = 0; i < N; ++i) sum = fmaf(values[i], values[i], sum);
  return sum;
}

template <typename T, int N>
__device__ inline Vector<T, N> normalized(const Vector<T, N>& x, const Vector<T, N>& weight,
                                          float scale) {
  Floats<N> result = to_floats(x);
  const Floats<N> factors = to_floats(weight);
#pragma unroll
  for (int i = 0; i < N; ++i) result[i] *= scale * factors[i];
  return from_floats<T>(result);
}

/// Where a norm's rows are. Without kAdd `residual` is unused; with it `out` is `input`.
template <typename T>
struct NormArguments {
  T* out;           // [rows, width], rows out_stride apart; may be input itself
  const T* input;   // [rows, width], rows input_stride apart
  T* residual;      // [rows, width], rows residual_stride apart
  const T* weight;  // [width]
  float epsilon;
  int64_t width, out_stride, input_stride, residual_stride;
  bool once;              // nobody reads the results soon
  unsigned early_blocks;  // that fetch what they read ahead

  __device__ void put(T* to, const Vector<T, kVectorSize<T>>& vector) const {
    if (once)
      store<kVectorSize<T>, true>(to, vector);
    else
      store(to, vector);
  }
};

/// One block a row, of at most blockDim.x * kItems vectors.
template <bool kAdd, typename T, int kItems, int kThreads>
__global__ void __launch_bounds__(kThreads, kResident<kAdd, kItems, kThreads>)
    norm_kernel(const __grid_constant__ NormArguments<T> a) {
  let_next_kernel_start();
  constexpr int N = kVectorSize<T>, kLine = kLineBytes / static_cast<int>(sizeof(T));
  constexpr bool kEarly = kItems <= kEarlyWeightItems;
  const int64_t row = blockIdx.x;
  const int items = static_cast<int>(a.width / N);
  const T* const input = a.input + row * a.input_stride;
  const int first = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x);
  if (is_early_block(a.early_blocks)) {
    // While the kernel before this one ends: what it does not write, such as the weight, is then in
    // the L2 cache.
    for (int i = first * kLine; i < a.width; i += step * kLine) {
      fetch_line(a.weight + i);
      fetch_line(input + i);
      if constexpr (kAdd) fetch_line(a.residual + row * a.residual_stride + i);
    }
  }
  wait_for_previous_kernel();

  Vector<T, N> x[kItems], added[kAdd ? kItems : 1], weight[kEarly ? kItems : 1];
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const int item = first + k * step;
    if (item < items) {
      x[k] = load_once<N>(input + item * N);
      if constexpr (kAdd) added[k] = load_once<N>(a.residual + row * a.residual_stride + item * N);
      if constexpr (kEarly) weight[k] = load<N>(a.weight + item * N);
    }
  }
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const int item = first + k * step;
    if (item < items) {
      if constexpr (kAdd) {
        add_rounded(x[k], added[k]);
        a.put(a.residual + row * a.residual_stride + item * N, x[k]);
      }
      sum = sum_of_squares(x[k], sum);
    }
  }
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(a.width) + a.epsilon);
  T* const out = a.out + row * a.out_stride;
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const int item = first + k * step;
    if (item < items) {
      if constexpr (kEarly)
        a.put(out + item * N, normalized(x[k], weight[k], scale));
      else
        a.put(out + item * N, normalized(x[k], load<N>(a.weight + item * N), scale));
    }
  }
}

/// One block a row of any width, element by element. Each thread reads in the second pass what it
/// wrote or read itself in the first.
template <bool kAdd, typename T>
__global__ void __launch_bounds__(kMaxThreads)
    any_norm_kernel(const __grid_constant__ NormArguments<T> a) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t row = blockIdx.x;
  const T* const input = a.input + row * a.input_stride;
  T* const residual = kAdd ? a.residual + row * a.residual_stride : nullptr;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < a.width; i += blockDim.x) {
    Vector<T, 1> x = load<1>(input + i);
    if constexpr (kAdd) {
      add_rounded(x, load<1>(residual + i));
      store(residual + i, x);
    }
    sum = sum_of_squares(x, sum);
  }
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(a.width) + a.epsilon);
  T* const out = a.out + row * a.out_stride;
  for (int64_t i = threadIdx.x; i < a.width; i += blockDim.x) {
    const Vector<T, 1> x = kAdd ? load<1>(residual + i) : load<1>(input + i);
    store(out + i, normalized(x, load<1>(a.weight + i), scale));
  }
}

/// Whole warps for `items` of work, at most `most` threads.
unsigned threads_for(int64_t items, int most = kMaxThreads) {
  return static_cast<unsigned>(
      std::min<int64_t>(ceil_div(std::max<int64_t>(items, 1), kWarp) * kWarp, most));
}

template <bool kAdd, typename T>
void run(const DeviceCheck& check, const Launch& launch, NormArguments<T> arguments, int64_t rows,
         bool vectors) {
  constexpr int64_t kMostRows = 2147483647;  // of one grid
  arguments.once = rows * arguments.width * static_cast<int64_t>(sizeof(T)) >= kStoredOnceBytes;
  arguments.early_blocks = count_early_blocks(check, check.device(), kMaxThreads, arguments.once);
  const int64_t items = arguments.width / kVectorSize<T>;
  const bool alone = rows <= multiprocessors(check, check.device());
  for (int64_t row = 0; row < rows; row += kMostRows) {
    NormArguments<T> part = arguments;
    part.out += row * part.out_stride;
    part.input += row * part.input_stride;
    if constexpr (kAdd) part.residual += row * part.residual_stride;
    const auto count = static_cast<unsigned>(std::min(rows - row, kMostRows));
    const auto with = [&]<int kItems, int kThreads>() {
      launch.overlapping<norm_kernel<kAdd, T, kItems, kThreads>>(
          count, threads_for(ceil_div(items, kItems), kThreads), 0, part);
    };
    // Rows of 4096 in 16 bits are one block of 256 threads with two vectors each, of 14336 one of
    // 448 with four; where they have a multiprocessor each, of 512 with one and of 896 with two.
    if (!vectors || items > kMostItems * kMaxThreads)
      launch.overlapping<any_norm_kernel<kAdd, T>>(count, threads_for(ceil_div(part.width, 4)), 0,
                                                   part);
    else if (alone && items <= kAloneThreads)
      with.template operator()<1, kAloneThreads>();
    else if (alone && items <= 2 * kAloneThreads)
      with.template operator()<2, kAloneThreads>();
    else if (items <= 4 * kWarp)
      with.template operator()<1, kMaxThreads>();
    else if (items <= 2 * kMaxThreads)
      with.template operator()<2, kMaxThreads>();
    else if (items <= 4 * kMaxThreads)
      with.template operator()<4, kMaxThreads>();
    else
      with.template operator()<kMostItems, kMaxThreads>();
  }
}

}  // namespace

void rms_norm(Tensor& out, const Tensor& input, const Tensor& weight, double epsilon) {
  DeviceCheck check("rms_norm");
  const RmsNormCall call = check_rms_norm(check, out, input, weight);
  if (call.empty()) return;

  const Launch launch(check);
  const View &in = call.input, &w = call.weight;
  const MutableView& o = call.out;
  const Rows &in_rows = call.input_rows, &out_rows = call.out_rows;
  const bool vectors =
      is_vectorizable(in, in_rows) && is_vectorizable(o, out_rows) && is_aligned(w.data);
  dispatch_floating(in.dtype, [&]<typename T>() {
    run<false, T>(check, launch,
                  {o.as<T>(), in.as<T>(), nullptr, w.as<T>(), static_cast<float>(epsilon),
                   in_rows.width, out_rows.stride, in_rows.stride, 0, false, 0},
                  in_rows.count, vectors);
  });
}
VLLM_OPS_KERNEL(CUDA, rms_norm, rms_norm)

void fused_add_rms_norm(Tensor& input, Tensor& residual, const Tensor& weight, double epsilon) {
  DeviceCheck check("fused_add_rms_norm");
  const FusedAddRmsNormCall call = check_fused_add_rms_norm(check, input, residual, weight);
  if (call.empty()) return;

  const Launch launch(check);
  const MutableView &in = call.input, &res = call.residual;
  const View& w = call.weight;
  const Rows &in_rows = call.input_rows, &res_rows = call.residual_rows;
  const bool vectors =
      is_vectorizable(in, in_rows) && is_vectorizable(res, res_rows) && is_aligned(w.data);
  dispatch_floating(in.dtype, [&]<typename T>() {
    run<true, T>(check, launch,
                 {in.as<T>(), in.as<T>(), res.as<T>(), w.as<T>(), static_cast<float>(epsilon),
                  in_rows.width, in_rows.stride, in_rows.stride, res_rows.stride, false, 0},
                 in_rows.count, vectors);
  });
}
VLLM_OPS_KERNEL(CUDA, fused_add_rms_norm, fused_add_rms_norm)

}  // namespace vllm_ops::cuda
