// SPDX-License-Identifier: Apache-2.0
//
// rms_norm: out = x / sqrt(mean(x²) + epsilon) * weight over a row.
// fused_add_rms_norm: residual = input + residual, then input = rms_norm(residual): the norm is
// that of the sum as it was rounded, so that the next layer sees the same residual. A row is read
// twice, the second time out of the cache. float32 inside, one rounding at each store. Definition:
// vLLM's RMSNorm.

#include <cmath>

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Sum of squares in four sums side by side, which hides the latency of the additions.
class SumOfSquares {
 public:
  void add(const Pair& x) {
    even_.lo = at::vec::fmadd(x.lo, x.lo, even_.lo);
    even_.hi = at::vec::fmadd(x.hi, x.hi, even_.hi);
    std::swap(even_, odd_);
  }
  float total() const { return sum((even_.lo + even_.hi) + (odd_.lo + odd_.hi)); }

 private:
  Pair even_{Vec(0.0f), Vec(0.0f)}, odd_{Vec(0.0f), Vec(0.0f)};
};

inline Vec scale_of(const SumOfSquares& squares, int64_t width, float epsilon) {
  return Vec(1.0f / std::sqrt(squares.total() / static_cast<float>(width) + epsilon));
}

/// out = x * scale * weight over a row.
template <bool kStream = false, typename T>
inline void normalize(T* out, const T* x, const T* weight, const Vec& scale, int64_t width) {
  for_steps(width, [=](int64_t i, auto count) {
    const Pair v = load(x + i, count), w = load(weight + i, count);
    write<kStream>(out + i, Pair{v.lo * scale * w.lo, v.hi * scale * w.hi}, count);
  });
}

template <bool kStream, typename T>
[[gnu::flatten]] inline void rms_norm_rows(T* out, const T* input, const T* weight, float epsilon,
                                           int64_t rows, int64_t width, int64_t out_stride,
                                           int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += out_stride, input += input_stride) {
    SumOfSquares squares;
    for_steps(width, [&](int64_t i, auto count) {
      if constexpr (kStream) prefetch(input + i + kAhead<T>, kStep);
      squares.add(load(input + i, count));
    });
    normalize<kStream>(out, input, weight, scale_of(squares, width, epsilon), width);
  }
}

}  // namespace

template <typename T>
void rms_norm(T* out,           // [rows, width], rows out_stride apart; may be input itself
              const T* input,   // [rows, width], rows input_stride apart
              const T* weight,  // [width]
              float epsilon, int64_t rows, int64_t width, int64_t out_stride, int64_t input_stride,
              bool past_caches) {  // whether out is too large to stay in them
  if (past_caches && can_stream(out, out_stride)) {
    rms_norm_rows<true>(out, input, weight, epsilon, rows, width, out_stride, input_stride);
    end_stream();
  } else {
    rms_norm_rows<false>(out, input, weight, epsilon, rows, width, out_stride, input_stride);
  }
}
VLLM_OPS_CPU_INSTANTIATE(rms_norm)

template <typename T>
[[gnu::flatten]] void fused_add_rms_norm(T* input,     // [rows, width], rows input_stride apart
                                         T* residual,  // [rows, width], rows residual_stride apart
                                         const T* weight,  // [width]
                                         float epsilon, int64_t rows, int64_t width,
                                         int64_t input_stride, int64_t residual_stride) {
  for (int64_t row = 0; row < rows; ++row, input += input_stride, residual += residual_stride) {
    SumOfSquares squares;
    for_steps(width, [&](int64_t i, auto count) {
      const Pair x = load(input + i, count), r = load(residual + i, count);
      const Pair added = rounded<T>(Pair{x.lo + r.lo, x.hi + r.hi});
      store(residual + i, added, count);
      squares.add(added);
    });
    normalize(input, residual, weight, scale_of(squares, width, epsilon), width);
  }
}
VLLM_OPS_CPU_INSTANTIATE(fused_add_rms_norm)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
