// SPDX-License-Identifier: Apache-2.0
//
// The little that kernels need beyond at::vec: elements of any dtype as float32 vectors and back,
// and an exp that is accurate to the last bits. Compiled once for each instruction set.
#pragma once

#include <ATen/cpu/vec/vec.h>

#include <cstdint>
#include <cstring>
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
#if defined(__AVX512BF16__)
  // The instruction takes subnormal numbers for zero. They are rare, and rounded by other means.
  constexpr int kSubnormal = 0x20;
  const __mmask16 lo = _mm512_fpclass_ps_mask(v.lo, kSubnormal),
                  hi = _mm512_fpclass_ps_mask(v.hi, kSubnormal);
  if (__builtin_expect(_mm512_kortestz(lo, hi), 1)) {
    const __m512bh rounded = _mm512_cvtne2ps_pbh(v.hi, v.lo);
    __m512i bits;
    std::memcpy(&bits, &rounded, sizeof(bits));
    return bits;
  }
#endif
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

/// Whether rows of T from `p` on, `stride` elements apart, can be stored by `stream`.
template <typename T>
inline bool can_stream(const T* p, int64_t stride) {
#if defined(CPU_CAPABILITY_AVX2) || defined(CPU_CAPABILITY_AVX512)
  constexpr uintptr_t kVector = sizeof(Vec);
  return reinterpret_cast<uintptr_t>(p) % kVector == 0 && stride * sizeof(T) % kVector == 0;
#else
  static_cast<void>(p), static_cast<void>(stride);
  return false;
#endif
}

/// Stores past the caches, for results too large to stay in them: the memory need not be read
/// first. `p` is aligned to a vector. Call end_stream after the last one.
template <typename T, typename Count>
inline void stream(T* p, const Pair& v, Count count) {
  if constexpr (!std::is_same_v<Count, FullStep>) {
    store(p, v, count);
  } else {
#if defined(CPU_CAPABILITY_AVX512)
    if constexpr (std::is_same_v<T, float>) {
      _mm512_stream_ps(p, v.lo);
      _mm512_stream_ps(p + kLanes, v.hi);
    } else {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(p), round_to(T{}, v));
    }
#elif defined(CPU_CAPABILITY_AVX2)
    if constexpr (std::is_same_v<T, float>) {
      _mm256_stream_ps(p, v.lo);
      _mm256_stream_ps(p + kLanes, v.hi);
    } else {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(p), round_to(T{}, v));
    }
#else
    store(p, v, count);
#endif
  }
}

/// Stores, past the caches or through them.
template <bool kStream, typename T, typename Count>
inline void write(T* p, const Pair& v, Count count) {
  if constexpr (kStream)
    stream(p, v, count);
  else
    store(p, v, count);
}

/// Makes streamed results visible to other threads.
inline void end_stream() {
#if defined(CPU_CAPABILITY_AVX2) || defined(CPU_CAPABILITY_AVX512)
  _mm_sfence();
#endif
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

/// exp(x) within 2 ulp: inf above 88.72, NaN of NaN. Below -87.33, where the exact value is
/// subnormal, 0 or that value.
inline Vec exp(const Vec& x) {
  // x = n ln2 + r with |r| <= ln2 / 2. ln2 is split in two so that n * kLn2High is exact.
  constexpr float kLog2E = 1.44269504f, kLn2High = 0.693145752f, kLn2Low = 1.42860677e-6f;
  // At 88.73 the result is inf, and n is at most 128.
  constexpr float kLowest = -87.33f, kHighest = 88.73f;
  // Rounds to an integer when added, and leaves that integer in the low bits.
  constexpr float kRounder = 12582912.0f;
  const Vec clamped = at::vec::clamp(x, Vec(kLowest), Vec(kHighest));
  const Vec rounded = at::vec::fmadd(clamped, Vec(kLog2E), Vec(kRounder));
  const Vec n = rounded - Vec(kRounder);
  Vec r = at::vec::fnmadd(n, Vec(kLn2High), clamped);
  r = at::vec::fnmadd(n, Vec(kLn2Low), r);
  // Minimax polynomial of exp(r) of degree 6 in this range, relative error 1e-8.
  Vec p = at::vec::fmadd(r, Vec(1.3982e-3f), Vec(8.3699e-3f));
  p = at::vec::fmadd(p, r, Vec(4.16666e-2f));
  p = at::vec::fmadd(p, r, Vec(1.66665e-1f));
  p = at::vec::fmadd(p, r, Vec(0.5f));
  p = at::vec::fmadd(p, r, Vec(1.0f));
  p = at::vec::fmadd(p, r, Vec(1.0f));
#if defined(CPU_CAPABILITY_AVX512)
  const __mmask16 kept = _mm512_cmp_ps_mask(x, Vec(kLowest), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(kept, p, n);
#else
  // 2^n by its bits. 128 is one more than they hold, hence 2^(n - 1), twice.
  using Int = at::vec::Vectorized<int32_t>;
  const Int exponent = (at::vec::cast<int32_t>(rounded) + Int(126)) << Int(23);
  const Vec power = p * at::vec::cast<float>(exponent) * Vec(2.0f);
  return Vec::blendv(power, Vec(0.0f), x < Vec(kLowest));
#endif
}

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE

/// Instantiates the kernel template `name` for every dtype that the kernels compute in.
#define VLLM_OPS_CPU_INSTANTIATE(name)              \
  template decltype(name<float>) name<float>;       \
  template decltype(name<at::Half>) name<at::Half>; \
  template decltype(name<at::BFloat16>) name<at::BFloat16>;
