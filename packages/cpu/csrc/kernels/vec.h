// SPDX-License-Identifier: Apache-2.0
//
// The little that kernels need beyond at::vec: elements of any dtype as float32 vectors and back.
// Compiled once for each instruction set.
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

/// Sum of the lanes.
inline float sum(const Vec& v) {
  alignas(64) float lanes[kLanes];
  v.store(lanes);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

/// Two float32 vectors: what one vector of 16-bit elements becomes. bfloat16 is taken apart into
/// its even (lo) and odd (hi) elements, which costs a shift and a mask; every other dtype into its
/// first and its second half. Arithmetic between tensors of one dtype need not know.
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

template <typename T>
using Elements = at::vec::Vectorized<T>;
using Int = at::vec::Vectorized<int32_t>;

/// The same bits as another type of vector.
template <typename To, typename From>
inline To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(static_cast<void*>(&to), &from, sizeof(to));
  return to;
}

inline Pair widen(const Elements<Half>& v) {
  const auto [lo, hi] = at::vec::convert_half_float(v);
  return {lo, hi};
}
inline Pair widen(const Elements<BFloat16>& v) {
  const Int bits = bits_as<Int>(v);
  return {bits_as<Vec>(bits << Int(16)), bits_as<Vec>(bits & Int(-65536))};
}

/// Loads `count` elements (FullStep, or fewer) as float32. What lies behind them is zero.
template <typename T, typename Count>
inline Pair load(const T* p, Count count) {
  constexpr bool full = std::is_same_v<Count, FullStep>;
  if constexpr (!std::is_same_v<T, float>) {
    if constexpr (full)
      return widen(Elements<T>::loadu(p));
    else
      return widen(Elements<T>::loadu(p, count));
  } else if constexpr (full) {
    return {Vec::loadu(p), Vec::loadu(p + kLanes)};
  } else if (count <= kLanes) {
    return {Vec::loadu(p, count), Vec(0.0f)};
  } else {
    return {Vec::loadu(p), Vec::loadu(p + kLanes, count - kLanes)};
  }
}

/// Rounds to nearest even.
template <typename T>
inline Elements<T> narrow(const Pair& v);

template <>
inline Elements<Half> narrow<Half>(const Pair& v) {
  return at::vec::convert_float_half(v.lo, v.hi);
}

/// narrow<BFloat16> of everything, NaN and subnormal numbers included.
inline Elements<BFloat16> narrow_any(const Pair& v) {
  const auto [lo, hi] = at::vec::interleave2(v.lo, v.hi);
  return at::vec::convert_float_bfloat16(lo, hi);
}

template <>
inline Elements<BFloat16> narrow<BFloat16>(const Pair& v) {
#if defined(__AVX512BF16__)
  // The instruction takes subnormal numbers for zero.
  constexpr int kSubnormal = 0x20;
  const __mmask16 lo = _mm512_fpclass_ps_mask(v.lo, kSubnormal),
                  hi = _mm512_fpclass_ps_mask(v.hi, kSubnormal);
  if (__builtin_expect(!_mm512_kortestz(lo, hi), 0)) return narrow_any(v);
  const __m512bh halves = _mm512_cvtne2ps_pbh(v.hi, v.lo);
  const __m512i interleaved =
      _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                       21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(interleaved, bits_as<__m512i>(halves));
#elif defined(CPU_CAPABILITY_AVX512) || defined(CPU_CAPABILITY_AVX2)
#if defined(CPU_CAPABILITY_AVX512)
  const bool has_nan = _mm512_cmp_ps_mask(v.lo, v.hi, _CMP_UNORD_Q) != 0;
#else
  const bool has_nan = _mm256_movemask_ps(_mm256_cmp_ps(v.lo, v.hi, _CMP_UNORD_Q)) != 0;
#endif
  if (__builtin_expect(has_nan, 0)) return narrow_any(v);
  const auto rounded = [](const Vec& x) {
    const Int bits = bits_as<Int>(x);
    return bits + Int(0x7fff) + ((bits >> Int(16)) & Int(1));
  };
  const Int even = (rounded(v.lo) >> Int(16)) & Int(0xffff), odd = rounded(v.hi) & Int(-65536);
  return bits_as<Elements<BFloat16>>(even | odd);
#else
  return narrow_any(v);
#endif
}

/// Stores `count` elements (FullStep, or fewer), rounded to nearest even.
template <typename T, typename Count>
inline void store(T* p, const Pair& v, Count count) {
  constexpr bool full = std::is_same_v<Count, FullStep>;
  if constexpr (!std::is_same_v<T, float>) {
    if constexpr (full)
      narrow<T>(v).store(p);
    else
      narrow<T>(v).store(p, static_cast<int>(count));
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

/// The value that a store leaves in memory.
template <typename T>
inline Pair rounded(const Pair& v) {
  if constexpr (std::is_same_v<T, float>)
    return v;
  else
    return widen(narrow<T>(v));
}

/// Between a Pair as `load<T>` gives it and its elements in order, first half and second half.
template <typename T>
inline Pair in_order(const Pair& v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto [lo, hi] = at::vec::interleave2(v.lo, v.hi);
    return {lo, hi};
  } else {
    return v;
  }
}
template <typename T>
inline Pair from_order(const Pair& v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const auto [even, odd] = at::vec::deinterleave2(v.lo, v.hi);
    return {even, odd};
  } else {
    return v;
  }
}

/// Between a Pair as `load<T>` gives it and its even and odd elements.
template <typename T>
inline Pair even_and_odd(const Pair& v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return v;
  } else {
    const auto [even, odd] = at::vec::deinterleave2(v.lo, v.hi);
    return {even, odd};
  }
}
template <typename T>
inline Pair from_even_and_odd(const Pair& v) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return v;
  } else {
    const auto [lo, hi] = at::vec::interleave2(v.lo, v.hi);
    return {lo, hi};
  }
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
  return count == kLanes ? load_lanes(p) : in_order<T>(load(p, count)).lo;
}

/// How far ahead of their use elements that come from memory in sequence are best fetched.
/// Processors fetch ahead by themselves, but one core then has too few lines under way to use all
/// of the memory's bandwidth.
template <typename T>
inline constexpr int64_t kAhead = 8192 / sizeof(T);

/// Fetches `count` elements into the second-level cache.
template <typename T>
inline void prefetch(const T* from, int64_t count) {
  constexpr int kToRead = 0, kSecondLevel = 2;
  constexpr int64_t kLine = 64 / sizeof(T);
  for (int64_t i = 0; i < count; i += kLine) __builtin_prefetch(from + i, kToRead, kSecondLevel);
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
      _mm512_stream_si512(reinterpret_cast<__m512i*>(p), narrow<T>(v));
    }
#elif defined(CPU_CAPABILITY_AVX2)
    if constexpr (std::is_same_v<T, float>) {
      _mm256_stream_ps(p, v.lo);
      _mm256_stream_ps(p + kLanes, v.hi);
    } else {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(p), narrow<T>(v));
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

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE

/// Instantiates the kernel template `name` for every dtype that the kernels compute in.
#define VLLM_OPS_CPU_INSTANTIATE(name)              \
  template decltype(name<float>) name<float>;       \
  template decltype(name<at::Half>) name<at::Half>; \
  template decltype(name<at::BFloat16>) name<at::BFloat16>;
