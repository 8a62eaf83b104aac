// SPDX-License-Identifier: Apache-2.0
//
// rms_norm: out = x / sqrt(mean(x²) + epsilon) * weight over a row.
// A row is read twice, the second time out of the cache. float32 inside, one rounding at the end.
// Definition: vLLM's RMSNorm.

#include <cmath>

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Sum of the squares of a row. Four sums side by side hide the latency of the additions.
template <typename T>
inline float sum_of_squares(const T* row, int64_t width) {
  Vec sums[4] = {Vec(0.0f), Vec(0.0f), Vec(0.0f), Vec(0.0f)};
  int64_t i = 0;
  for (; i + 2 * kStep <= width; i += 2 * kStep) {
    const Pair a = load(row + i, FullStep{}), b = load(row + i + kStep, FullStep{});
    sums[0] = at::vec::fmadd(a.lo, a.lo, sums[0]);
    sums[1] = at::vec::fmadd(a.hi, a.hi, sums[1]);
    sums[2] = at::vec::fmadd(b.lo, b.lo, sums[2]);
    sums[3] = at::vec::fmadd(b.hi, b.hi, sums[3]);
  }
  for_steps(width - i, [&](int64_t j, auto count) {
    const Pair a = load(row + i + j, count);
    sums[0] = at::vec::fmadd(a.lo, a.lo, sums[0]);
    sums[1] = at::vec::fmadd(a.hi, a.hi, sums[1]);
  });
  return sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

}  // namespace

template <typename T>
void rms_norm(T* out,           // [rows, width], rows out_stride apart; may be input itself
              const T* input,   // [rows, width], rows input_stride apart
              const T* weight,  // [width]
              float epsilon, int64_t rows, int64_t width, int64_t out_stride,
              int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += out_stride, input += input_stride) {
    const Vec scale(1.0f /
                    std::sqrt(sum_of_squares(input, width) / static_cast<float>(width) + epsilon));
    for_steps(width, [=](int64_t i, auto count) {
      const Pair x = load(input + i, count), w = load(weight + i, count);
      store(out + i, Pair{x.lo * scale * w.lo, x.hi * scale * w.hi}, count);
    });
  }
}
VLLM_OPS_CPU_INSTANTIATE(rms_norm)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
