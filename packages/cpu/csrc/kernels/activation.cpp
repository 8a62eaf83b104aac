// SPDX-License-Identifier: Apache-2.0
//
// …_and_mul: out = act(gate) * up; a row of input is [gate | up]. gelu_new, gelu_fast, gelu_quick:
// out = act(input). Every act is x / (1 + exp(-z)) but gelu itself, x Φ(x), whose Φ is taken from
// its tail, so that nothing cancels. float32 inside, one rounding at the end. Definitions: vLLM's
// SiluAndMul, GeluAndMul, NewGELU, FastGELU, QuickGELU.

#include "exp.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// x / (1 + exp(-x))
struct Silu {
  template <typename T>
  static Vec of(const Vec& x) {
    return x / (exp_for<T>(x.neg()) + Vec(1.0f));
  }
};

/// x (1 + tanh(z / 2)) / 2 = x / (1 + exp(-z)) with z = √(8/π) (x + 0.044715 x³)
struct GeluTanh {
  template <typename T>
  static Vec of(const Vec& x) {
    constexpr float kLinear = 1.59576912f, kCubic = 0.0713548163f;
    const Vec z = x * at::vec::fmadd(x * x, Vec(-kCubic), Vec(-kLinear));
    return x / (exp_for<T>(z) + Vec(1.0f));
  }
};

/// x / (1 + exp(-1.702 x))
struct GeluQuick {
  template <typename T>
  static Vec of(const Vec& x) {
    return x / (exp_for<T>(x * Vec(-1.702f)) + Vec(1.0f));
  }
};

/// x Φ(x), the normal distribution's Φ(-|x|) being exp(-x²/2) times a polynomial in 1 / (1 + p
/// |x|).
struct Gelu {
  template <typename T>
  static Vec of(const Vec& x) {
    const Vec t = x.abs();
    const Vec power = exp_for<T>(t * t * Vec(-0.5f));
    // Where Φ(-t) is below float32's normal numbers: no polynomial's place.
    const Vec tail = Vec::blendv(power * ratio<T>(t), Vec(0.0f), t > Vec(13.2f));
    return x * Vec::blendv(Vec(1.0f) - tail, tail, x < Vec(0.0f));
  }

 private:
  /// Φ(-t) / exp(-t²/2), minimax in u = 1 / (1 + p t) of relative error 6e-8, and for results of 16
  /// bits 9e-6.
  template <typename T>
  static Vec ratio(const Vec& t) {
    if constexpr (std::is_same_v<T, float>)
      return polynomial(reciprocal(t, 0.33f), -0.02044236453f, 0.1213481438f, -0.2637093855f,
                        0.2207830148f, -0.05396851527f, 0.1207764134f, 0.1113194873f, 0.1322692334f,
                        0.1316240027f);
    else
      return polynomial(reciprocal(t, 0.3f), -0.07670053913f, 0.2148488276f, -0.01559741096f,
                        0.1434733027f, 0.1139228447f, 0.1200574161f);
  }
  static Vec reciprocal(const Vec& t, float p) {
    return Vec(1.0f) / at::vec::fmadd(t, Vec(p), Vec(1.0f));
  }
  /// (((highest u + …) u + …) u + lowest) u
  template <typename... Coefficients>
  static Vec polynomial(const Vec& u, float highest, Coefficients... lower) {
    Vec sum(highest);
    ((sum = at::vec::fmadd(sum, u, Vec(lower))), ...);
    return sum * u;
  }
};

template <typename Act, bool kStream, typename T>
[[gnu::flatten]] inline void gated_rows(T* out, const T* input, int64_t rows, int64_t width,
                                        int64_t out_stride, int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += out_stride, input += input_stride) {
    for_steps(width, [=](int64_t i, auto count) {
      if constexpr (kStream) {
        prefetch(input + i + kAhead<T>, kStep);
        prefetch(input + width + i + kAhead<T>, kStep);
      }
      const Pair gate = load(input + i, count), up = load(input + width + i, count);
      write<kStream>(
          out + i, Pair{Act::template of<T>(gate.lo) * up.lo, Act::template of<T>(gate.hi) * up.hi},
          count);
    });
  }
}

template <typename Act, bool kStream, typename T>
[[gnu::flatten]] inline void plain_rows(T* out, const T* input, int64_t rows, int64_t width,
                                        int64_t out_stride, int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += out_stride, input += input_stride) {
    for_steps(width, [=](int64_t i, auto count) {
      if constexpr (kStream) prefetch(input + i + kAhead<T>, kStep);
      const Pair x = load(input + i, count);
      write<kStream>(out + i, Pair{Act::template of<T>(x.lo), Act::template of<T>(x.hi)}, count);
    });
  }
}

template <typename Act, typename T>
inline void gated(T* out, const T* input, int64_t rows, int64_t width, int64_t out_stride,
                  int64_t input_stride, bool past_caches) {
  if (past_caches && can_stream(out, out_stride)) {
    gated_rows<Act, true>(out, input, rows, width, out_stride, input_stride);
    end_stream();
  } else {
    gated_rows<Act, false>(out, input, rows, width, out_stride, input_stride);
  }
}

template <typename Act, typename T>
inline void plain(T* out, const T* input, int64_t rows, int64_t width, int64_t out_stride,
                  int64_t input_stride, bool past_caches) {
  if (past_caches && can_stream(out, out_stride)) {
    plain_rows<Act, true>(out, input, rows, width, out_stride, input_stride);
    end_stream();
  } else {
    plain_rows<Act, false>(out, input, rows, width, out_stride, input_stride);
  }
}

}  // namespace

/// Defines the kernel `name` of an activation by the way `rows` of going through rows.
#define VLLM_OPS_CPU_ACTIVATION(name, rows_of, Act)                                               \
  template <typename T>                                                                           \
  void name(T* out,         /* [rows, width], rows out_stride apart */                            \
            const T* input, /* [rows, width], gated [rows, 2 * width], rows input_stride apart */ \
            int64_t rows, int64_t width, int64_t out_stride, int64_t input_stride,                \
            bool past_caches) { /* whether out is too large to stay in them */                    \
    rows_of<Act>(out, input, rows, width, out_stride, input_stride, past_caches);                 \
  }                                                                                               \
  VLLM_OPS_CPU_INSTANTIATE(name)

VLLM_OPS_CPU_ACTIVATION(silu_and_mul, gated, Silu)
VLLM_OPS_CPU_ACTIVATION(gelu_and_mul, gated, Gelu)
VLLM_OPS_CPU_ACTIVATION(gelu_tanh_and_mul, gated, GeluTanh)
VLLM_OPS_CPU_ACTIVATION(gelu_tanh, plain, GeluTanh)
VLLM_OPS_CPU_ACTIVATION(gelu_quick, plain, GeluQuick)
#undef VLLM_OPS_CPU_ACTIVATION

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
