// SPDX-License-Identifier: Apache-2.0
//
// The little that kernels need beyond at::vec: elements of any dtype as float32 vectors and back,
// and an exp that is accurate to the last bits. Compiled once for each instruction set.
#pragma once

#include <ATen/cpu/vec/vec.h>

#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {

using at::BFloat16;
using at::Half;
using Vec = at::vec::Vectorized<float>;
inline constexpr int64_t kLanes = Vec::size();

/// Two float32 vectors: what one vector of 16-bit elements becomes.
struct Pair {
  Vec lo, hi;
};

/// Elements of a Pair, the step of the loops over elements.
inline constexpr int64_t kStep = 2 * kLanes;
using FullStep = std::integral_constant<int64_t, kStep>;

/// Calls body(i, count) for the steps of a row: count is FullStep, a constant, but for the tail.
template <typename Body>
inline void for_steps(int64_t width, const Body& body) {
  int64_t i = 0;
  for (; i + kStep <= width; i += kStep) body(i, FullStep{});
  if (i < width) body(i, width - i);
}

inline Pair convert(const at::vec::Vectorized<BFloat16>& v) {
  const auto [lo, hi] = at::vec::convert_bfloat16_float(v);
  return {lo, hi};
}
inline Pair convert(const at::vec::Vectorized<Half>& v) {
  const auto [lo, hi] = at::vec::convert_half_float(v);
  return {lo, hi};
}

/// Loads `count` elements (FullStep, or fewer) as float32. What lies behind them is zero.
template <typename T, typename Count>
inline Pair load(const T* p, Count count) {
  constexpr bool full = std::is_same_v<Count, FullStep>;
  if constexpr (!std::is_same_v<T, float>) {
    if constexpr (full)
      return convert(at::vec::Vectorized<T>::loadu(p));
    else
      return convert(at::vec::Vectorized<T>::loadu(p, count));
  } else if constexpr (full) {
    return {Vec::loadu(p), Vec::loadu(p + kLanes)};
  } else if (count <= kLanes) {
    return {Vec::loadu(p, count), Vec(0.0f)};
  } else {
    return {Vec::loadu(p), Vec::loadu(p + kLanes, count - kLanes)};
  }
}

inline at::vec::Vectorized<BFloat16> round_to(BFloat16, const Pair& v) {
  return at::vec::convert_float_bfloat16(v.lo, v.hi);
}
inline at::vec::Vectorized<Half> round_to(Half, const Pair& v) {
  return at::vec::convert_float_half(v.lo, v.hi);
}

/// Stores `count` elements (FullStep, or fewer), rounded to nearest even.
template <typename T, typename Count>
inline void store(T* p, const Pair& v, Count count) {
  constexpr bool full = std::is_same_v<Count, FullStep>;
  if constexpr (!std::is_same_v<T, float>) {
    if constexpr (full)
      round_to(T{}, v).store(p);
    else
      round_to(T{}, v).store(p, static_cast<int>(count));
  } else if constexpr (full) {
    v.lo.store(p);
    v.hi.store(p + kLanes);
  } else if (count <= kLanes) {
    v.lo.store(p, static_cast<int>(count));
  } else {
    v.lo.store(p);
    v.hi.store(p + kLanes, static_cast<int>(count - kLanes));
  }
}

/// The value that a store leaves in memory, as float32.
template <typename T>
inline Pair rounded(const Pair& v) {
  if constexpr (std::is_same_v<T, float>)
    return v;
  else
    return convert(round_to(T{}, v));
}

/// Loads one vector of `kLanes` elements as float32.
inline Vec load_lanes(const float* p) { return Vec::loadu(p); }
inline Vec load_lanes(const BFloat16* p) {
  Vec v;
  at::vec::load_fp32_from_bf16(p, v);
  return v;
}
inline Vec load_lanes(const Half* p) {
  Vec v;
  at::vec::load_fp32_from_fp16(p, v);
  return v;
}

/// Loads the first `count` <= kLanes elements as float32, zero behind them.
template <typename T>
inline Vec load_lanes(const T* p, int64_t count) {
  return count == kLanes ? load_lanes(p) : load(p, count).lo;
}

/// Sum of the lanes.
inline float sum(const Vec& v) {
  alignas(64) float lanes[kLanes];
  v.store(lanes);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

/// exp(x) within 2 ulp: inf above 88.72, 0 below -87.33 (where the exact value is subnormal), NaN
/// of NaN.
inline Vec exp(const Vec& x) {
  using Int = at::vec::Vectorized<int32_t>;
  // x = n ln2 + r with |r| <= ln2 / 2. ln2 is split in two so that n * kLn2High is exact.
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693145752f, kLn2Low = 1.42860677e-6f;
  constexpr float kLowest = -87.33f, kHighest = 88.72f;
  const Vec clamped = at::vec::clamp(x, Vec(kLowest), Vec(kHighest));
  const Vec n = (clamped * Vec(kLog2E)).round();
  Vec r = at::vec::fnmadd(n, Vec(kLn2High), clamped);
  r = at::vec::fnmadd(n, Vec(kLn2Low), r);
  // Minimax polynomial of exp(r) of degree 6 in this range, relative error 1e-8.
  Vec p = at::vec::fmadd(r, Vec(1.3982e-3f), Vec(8.3699e-3f));
  p = at::vec::fmadd(p, r, Vec(4.16666e-2f));
  p = at::vec::fmadd(p, r, Vec(1.66665e-1f));
  p = at::vec::fmadd(p, r, Vec(0.5f));
  p = at::vec::fmadd(p, r, Vec(1.0f));
  p = at::vec::fmadd(p, r, Vec(1.0f));
  // 2^n by its bits; n is at most 128, one more than they hold, hence half of it and twice.
  const Int exponent = at::vec::convert_to_int_of_same_size(n) + Int(126);
  const Vec half_power = at::vec::cast<float>(exponent << Int(23));
  const Vec power = p * half_power * Vec(2.0f);
  const Vec inside =
      Vec::blendv(power, Vec(std::numeric_limits<float>::infinity()), x > Vec(kHighest));
  return Vec::blendv(Vec::blendv(inside, Vec(0.0f), x < Vec(kLowest)), x, x.isnan());
}

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE

/// Instantiates the kernel template `name` for every dtype that the kernels compute in.
#define VLLM_OPS_CPU_INSTANTIATE(name)              \
  template decltype(name<float>) name<float>;       \
  template decltype(name<at::Half>) name<at::Half>; \
  template decltype(name<at::BFloat16>) name<at::BFloat16>;
