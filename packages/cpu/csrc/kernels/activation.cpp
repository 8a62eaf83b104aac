// SPDX-License-Identifier: Apache-2.0
//
// silu_and_mul: out = silu(gate) * up with silu(x) = x / (1 + exp(-x)); a row of input is [gate |
// up]. float32 inside, one rounding at the end. Definition: vLLM's SiluAndMul.

#include "exp.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

template <typename T>
inline Vec silu(const Vec& x) {
  return x / (exp_for<T>(x.neg()) + Vec(1.0f));
}

template <bool kStream, typename T>
[[gnu::flatten]] inline void silu_and_mul_rows(T* out, const T* input, int64_t rows, int64_t width,
                                               int64_t out_stride, int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += out_stride, input += input_stride) {
    for_steps(width, [=](int64_t i, auto count) {
      if constexpr (kStream) {
        prefetch(input + i + kAhead<T>, kStep);
        prefetch(input + width + i + kAhead<T>, kStep);
      }
      const Pair gate = load(input + i, count), up = load(input + width + i, count);
      write<kStream>(out + i, Pair{silu<T>(gate.lo) * up.lo, silu<T>(gate.hi) * up.hi}, count);
    });
  }
}

}  // namespace

template <typename T>
void silu_and_mul(T* out,          // [rows, width], rows out_stride apart
                  const T* input,  // [rows, 2 * width], rows input_stride apart
                  int64_t rows, int64_t width, int64_t out_stride, int64_t input_stride,
                  bool past_caches) {  // whether out is too large to stay in them
  if (past_caches && can_stream(out, out_stride)) {
    silu_and_mul_rows<true>(out, input, rows, width, out_stride, input_stride);
    end_stream();
  } else {
    silu_and_mul_rows<false>(out, input, rows, width, out_stride, input_stride);
  }
}
VLLM_OPS_CPU_INSTANTIATE(silu_and_mul)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
