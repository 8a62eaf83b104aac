// SPDX-License-Identifier: Apache-2.0
//
// silu_and_mul: out = silu(gate) * up with silu(x) = x / (1 + exp(-x)); a row of input is [gate |
// up]. Bound by memory: every element is read or written once, 16 bytes at a time where the rows
// allow it. float32 inside, one rounding at the end. Definition: vLLM's SiluAndMul.

#include <vllm_ops/kernel.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

/// exp(x), accurate to the last bits where the result is float32, else to more than 16 bits show.
template <typename T>
__device__ inline float exp_for(float x) {
  if constexpr (sizeof(T) == 4)
    return expf(x);
  else
    return __expf(x);
}

/// x / (1 + exp(-x)). exp is taken of -|x|, which neither overflows nor lets the divisor leave
/// [1, 2], where the quick division is exact to 2 ulp.
template <typename T>
__device__ inline float silu(float x) {
  const float e = exp_for<T>(-fabsf(x));
  return x * __fdividef(x < 0.0f ? e : 1.0f, 1.0f + e);
}

template <typename T, int N>
__global__ void __launch_bounds__(256)
    silu_and_mul_kernel(T* __restrict__ out,          // [rows, width], rows out_stride apart
                        const T* __restrict__ input,  // [rows, 2 * width], rows input_stride apart
                        int64_t rows, int64_t width, int64_t out_stride, int64_t input_stride) {
  for_each_item(rows, width / N, [=](int64_t row, int64_t item) {
    const T* const from = input + row * input_stride + item * N;
    const Vector<T, N> gate = load_once<N>(from), up = load_once<N>(from + width);
    Vector<T, N> result;
#pragma unroll
    for (int i = 0; i < N; ++i)
      result[i] = from_float<T>(silu<T>(to_float(gate[i])) * to_float(up[i]));
    store(out + row * out_stride + item * N, result);
  });
}

}  // namespace

void silu_and_mul(Tensor& out, const Tensor& input) {
  DeviceCheck check("silu_and_mul");
  const View in = check.input("input", input);
  const MutableView o = check.output("out", out);
  check.floating(in);
  check.same_dtype(o, in);
  const Rows in_rows = check.rows(in);
  if (in_rows.width % 2 != 0)
    check.fail("input", "an even size of the last dimension", text("shape ", in.shape()));
  check.rank(o, in.dim);
  for (int64_t d = 0; d + 1 < in.dim; ++d) check.size(o, d, in.size(d), "as in 'input'");
  check.size(o, in.dim - 1, in_rows.width / 2, "half the width of 'input'");
  const Rows out_rows = check.rows(o);
  check.disjoint(o, in);
  if (o.numel() == 0) return;

  const Launch launch(check);
  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto run = [&]<int N>() {
      const Tiles t = tiles(out_rows.count, out_rows.width / N);
      launch(silu_and_mul_kernel<T, N>, t.grid, t.block, o.as<T>(), in.as<T>(), out_rows.count,
             out_rows.width, out_rows.stride, in_rows.stride);
    };
    const bool vectors =
        is_vectorizable(o, out_rows) && is_vectorizable(in, in_rows, out_rows.width);
    if (vectors)
      run.template operator()<kVectorSize<T>>();
    else
      run.template operator()<1>();
  });
}
VLLM_OPS_KERNEL(CUDA, silu_and_mul, silu_and_mul)

}  // namespace vllm_ops::cuda
