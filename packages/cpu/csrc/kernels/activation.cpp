// SPDX-License-Identifier: Apache-2.0
//
// silu_and_mul: out = silu(gate) * up with silu(x) = x / (1 + exp(-x)); a row of input is [gate |
// up]. float32 inside, one rounding at the end. Definition: vLLM's SiluAndMul.

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

inline Vec silu(const Vec& x) { return x / (exp(x.neg()) + Vec(1.0f)); }

}  // namespace

template <typename T>
void silu_and_mul(T* out,          // [rows, width], rows out_stride apart
                  const T* input,  // [rows, 2 * width], rows input_stride apart
                  int64_t rows, int64_t width, int64_t out_stride, int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += out_stride, input += input_stride) {
    for_steps(width, [=](int64_t i, auto count) {
      const Pair gate = load(input + i, count), up = load(input + width + i, count);
      store(out + i, Pair{silu(gate.lo) * up.lo, silu(gate.hi) * up.hi}, count);
    });
  }
}
VLLM_OPS_CPU_INSTANTIATE(silu_and_mul)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
