// SPDX-License-Identifier: Apache-2.0
//
// skinny_linear: out[t, n] = sum over k of input[t, k] * weight[n, k], for few tokens t.
// The weight is all there is to read, and it is read once. For one token a row at a time, in
// sequence, as memory delivers it best; for more, two rows at a time, so that inputs, which are in
// the cache, are loaded half as often. float32 sums, one rounding at the end. Definition:
// torch.nn.functional.linear.

#include <algorithm>

#include "dot.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Tokens that are worked on together: their sums fit the registers.
constexpr int64_t kTokens = 8;
/// Rows of the weight that stay in the cache while more tokens than kTokens come by.
constexpr int64_t kBlock = 32;
template <typename T>
using Kept = typename Dot<T>::Kept;

/// Sums in lanes of kLanes rows of the weight for each token: sums[token][row][lane].
template <int M>
using Sums = float[M][kLanes][kLanes];

/// R rows of the weight, the first being number `row` of the sums, times M tokens.
template <int M, int R, typename T>
inline void multiply(Sums<M>& sums, int64_t row, const Kept<T>* input, int64_t input_stride,
                     const T* weight, int64_t weight_stride, int64_t in) {
  using D = Dot<T>;
  constexpr int64_t kStep = D::kElements;
  constexpr int kUnroll =
      std::max(1, 4 / (M * R));  // at least four sums side by side hide the latency of additions
  Vec lanes[R][M][kUnroll];
  for (auto& of_row : lanes)
    for (auto& of_token : of_row)
      for (Vec& sum : of_token) sum = Vec(0.0f);
  const auto step = [&](int64_t k, int u) {
    typename D::Vector w[R];
    for (int r = 0; r < R; ++r) {
      const T* const p = weight + r * weight_stride + k;
      w[r] = D::load(p);
      prefetch(p + kAhead<T>, kStep);
    }
    for (int m = 0; m < M; ++m)
      for (int r = 0; r < R; ++r)
        lanes[r][m][u] = D::multiply_add(w[r], input + m * input_stride + k, lanes[r][m][u]);
  };
  int64_t k = 0;
  for (; k + kUnroll * kStep <= in; k += kUnroll * kStep)
    for (int u = 0; u < kUnroll; ++u) step(k + u * kStep, u);
  for (; k + kStep <= in; k += kStep) step(k, 0);
  if (const uint64_t count = static_cast<uint64_t>(in) % kStep; count > 0) {
    for (int m = 0; m < M; ++m) {
      alignas(64) Kept<T> rest[kStep] = {};
      std::copy_n(input + m * input_stride + k, count, rest);
      for (int r = 0; r < R; ++r)
        lanes[r][m][0] =
            D::multiply_add(D::load(weight + r * weight_stride + k, count), rest, lanes[r][m][0]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int m = 0; m < M; ++m) {
      Vec total = lanes[r][m][0];
      for (int u = 1; u < kUnroll; ++u) total = total + lanes[r][m][u];
      total.store(sums[m][row + r]);
    }
  }
}

/// `rows` rows of the weight times M tokens. Out is T or float32.
template <int M, typename Out, typename T>
[[gnu::flatten]] inline void multiply_rows(Out* out, int64_t out_stride, const Kept<T>* input,
                                           int64_t input_stride, const T* weight,
                                           int64_t weight_stride, int64_t rows, int64_t in) {
  constexpr int R = M == 1 ? 1 : 2;
  alignas(64) Sums<M> sums = {};
  for (int64_t n = 0; n < rows; n += kLanes) {
    const int64_t count = std::min(kLanes, rows - n);
    int64_t row = 0;
    for (; row + R <= count; row += R)
      multiply<M, R>(sums, row, input, input_stride, weight + (n + row) * weight_stride,
                     weight_stride, in);
    for (; row < count; ++row)
      multiply<M, 1>(sums, row, input, input_stride, weight + (n + row) * weight_stride,
                     weight_stride, in);
    for (int m = 0; m < M; ++m) {
      sum_groups(sums[m][0], kLanes * kLanes, kLanes);
      store(out + m * out_stride + n, from_order<Out>(Pair{Vec::loadu(sums[m][0]), Vec(0.0f)}),
            count);
    }
  }
}

template <typename T>
constexpr bool kKeepsInput = std::is_same_v<Kept<T>, T>;

}  // namespace

/// Copies the input as float32, where sums are made of such.
template <typename T>
[[gnu::flatten]] void skinny_linear_prepare(
    float* wide,     // [rows, width]
    const T* input,  // [rows, width], rows input_stride apart
    int64_t rows, int64_t width, int64_t input_stride) {
  if constexpr (!kKeepsInput<T>)
    for (int64_t row = 0; row < rows; ++row, wide += width, input += input_stride)
      for_steps(width, [=](int64_t i, auto count) {
        store(wide + i, in_order<T>(load(input + i, count)), count);
      });
}
VLLM_OPS_CPU_INSTANTIATE(skinny_linear_prepare)

namespace {

template <typename Out, typename T>
inline void multiply_all(Out* out, int64_t out_stride, const Kept<T>* input, int64_t input_stride,
                         const T* weight, int64_t weight_stride, int64_t tokens, int64_t in,
                         int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end;) {
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
    n += rows;
  }
}

}  // namespace

template <typename T>
void skinny_linear(
    void* out,  // [tokens, …], tokens out_stride apart; float32 where out_is_float, else T
    bool out_is_float,
    const T* input,     // [tokens, in], tokens input_stride apart
    const float* wide,  // [tokens, in], by skinny_linear_prepare
    const T* weight,    // […, in], rows weight_stride apart
    int64_t tokens, int64_t in, int64_t begin,
    int64_t end,  // rows of the weight, elements of a token's output
    int64_t out_stride, int64_t input_stride, int64_t weight_stride) {
  const Kept<T>* from = nullptr;
  if constexpr (kKeepsInput<T>)
    from = input;
  else
    from = wide, input_stride = in;
  if (out_is_float)
    multiply_all(static_cast<float*>(out), out_stride, from, input_stride, weight, weight_stride,
                 tokens, in, begin, end);
  else
    multiply_all(static_cast<T*>(out), out_stride, from, input_stride, weight, weight_stride,
                 tokens, in, begin, end);
}
VLLM_OPS_CPU_INSTANTIATE(skinny_linear)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
