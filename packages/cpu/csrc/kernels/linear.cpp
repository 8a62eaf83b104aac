// SPDX-License-Identifier: Apache-2.0
//
// skinny_linear: out[t, n] = sum over k of input[t, k] * weight[n, k], for few tokens t.
// The weight is all there is to read, so it is read once, row after row as memory delivers it best:
// several rows at a time would cost the prefetcher its streams. A row is multiplied with up to
// kTokens tokens while it is in registers. float32 sums, one rounding at the end. Definition:
// torch.nn.functional.linear.

#include <algorithm>

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Tokens that are worked on together: their sums fit the registers.
constexpr int64_t kTokens = 8;
/// Rows of the weight that stay in the cache while more tokens than kTokens come by.
constexpr int64_t kBlock = 32;

/// Fetches what is needed a while after `count` elements from `p` on. Processors fetch ahead in
/// sequence by themselves, but one core then has too few lines under way to use all of the memory's
/// bandwidth.
template <typename T>
inline void prefetch(const T* p, int64_t count) {
  constexpr int kToRead = 0, kSecondLevel = 2;
  constexpr int64_t kAhead = 8192 / sizeof(T), kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += kLine)
    __builtin_prefetch(p + kAhead + i, kToRead, kSecondLevel);
}

/// One row of the weight times M tokens.
template <int M, typename T>
inline void multiply_row(T* out, int64_t out_stride, const float* input, int64_t input_stride,
                         const T* row, int64_t in) {
  constexpr int kUnroll =
      M >= 4 ? 1 : 4 / M;  // at least four sums side by side hide the latency of the additions
  Vec sums[M][kUnroll];
  for (int m = 0; m < M; ++m)
    for (int u = 0; u < kUnroll; ++u) sums[m][u] = Vec(0.0f);
  int64_t k = 0;
  for (; k + kUnroll * kLanes <= in; k += kUnroll * kLanes) {
    prefetch(row + k, kUnroll * kLanes);
    for (int u = 0; u < kUnroll; ++u) {
      const Vec w = load_lanes(row + k + u * kLanes);
      for (int m = 0; m < M; ++m)
        sums[m][u] =
            at::vec::fmadd(w, Vec::loadu(input + m * input_stride + k + u * kLanes), sums[m][u]);
    }
  }
  for (; k < in; k += kLanes) {
    const int64_t count = std::min(kLanes, in - k);
    const Vec w = load_lanes(row + k, count);
    for (int m = 0; m < M; ++m)
      sums[m][0] = at::vec::fmadd(w, load_lanes(input + m * input_stride + k, count), sums[m][0]);
  }
  for (int m = 0; m < M; ++m) {
    for (int u = 1; u < kUnroll; ++u) sums[m][0] = sums[m][0] + sums[m][u];
    out[m * out_stride] = static_cast<T>(sum(sums[m][0]));
  }
}

template <int M, typename T>
[[gnu::flatten]] inline void multiply_rows(T* out, int64_t out_stride, const float* input,
                                           int64_t input_stride, const T* weight,
                                           int64_t weight_stride, int64_t rows, int64_t in) {
  for (int64_t n = 0; n < rows; ++n)
    multiply_row<M>(out + n, out_stride, input, input_stride, weight + n * weight_stride, in);
}

}  // namespace

/// Copies rows as float32.
template <typename T>
[[gnu::flatten]] void widen(float* out,      // [rows, width]
                            const T* input,  // [rows, width], rows input_stride apart
                            int64_t rows, int64_t width, int64_t input_stride) {
  for (int64_t row = 0; row < rows; ++row, out += width, input += input_stride)
    for_steps(width, [=](int64_t i, auto count) {
      store(out + i, in_order<T>(load(input + i, count)), count);
    });
}
VLLM_OPS_CPU_INSTANTIATE(widen)

template <typename T>
void skinny_linear(T* out,              // [tokens, …], tokens out_stride apart
                   const float* input,  // [tokens, in], tokens input_stride apart
                   const T* weight,     // […, in], rows weight_stride apart
                   int64_t tokens, int64_t in, int64_t begin,
                   int64_t end,  // rows of the weight, elements of a token's output
                   int64_t out_stride, int64_t input_stride, int64_t weight_stride) {
  for (int64_t n = begin; n < end; n += kBlock) {
    const int64_t rows = tokens > kTokens ? std::min(kBlock, end - n) : end - n;
    for (int64_t t = 0; t < tokens; t += kTokens) {
      const auto multiply = [&]<int M>() {
        multiply_rows<M>(out + t * out_stride + n, out_stride, input + t * input_stride,
                         input_stride, weight + n * weight_stride, weight_stride, rows, in);
      };
      switch (std::min(kTokens, tokens - t)) {
        case 1:
          multiply.template operator()<1>();
          break;
        case 2:
          multiply.template operator()<2>();
          break;
        case 3:
          multiply.template operator()<3>();
          break;
        case 4:
          multiply.template operator()<4>();
          break;
        case 5:
          multiply.template operator()<5>();
          break;
        case 6:
          multiply.template operator()<6>();
          break;
        case 7:
          multiply.template operator()<7>();
          break;
        default:
          multiply.template operator()<8>();
          break;
      }
    }
    if (tokens <= kTokens) break;
  }
}
VLLM_OPS_CPU_INSTANTIATE(skinny_linear)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
