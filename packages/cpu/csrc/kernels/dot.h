// SPDX-License-Identifier: Apache-2.0
//
// Dot products of elements of any dtype, summed in float32 lanes: the inner step of attention
// scores and linear layers.
#pragma once

#include <algorithm>

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {

/// How vectors of T are multiplied and summed. One operand, the one that is read from memory once,
/// stays T; the other, which is used again and again, is held as `Kept`.
template <typename T>
struct Dot {
  using Kept = float;
  using Vector = Vec;
  /// Elements that fall into one lane of the sums.
  static constexpr int64_t kPerLane = 1;
  /// Elements of a vector.
  static constexpr int64_t kElements = kLanes;

  static Vector load(const T* p) { return load_lanes(p); }
  static Vector load(const T* p, int64_t count) { return load_lanes(p, count); }
  static Vec multiply_add(const Vector& v, const Kept* kept, const Vec& sum) {
    return at::vec::fmadd(v, Vec::loadu(kept), sum);
  }
};

#if defined(__AVX512BF16__)
/// Pairs of products by one instruction, which takes subnormal numbers for zero.
template <>
struct Dot<BFloat16> {
  using Kept = BFloat16;
  using Vector = Elements<BFloat16>;
  static constexpr int64_t kPerLane = 2;
  static constexpr int64_t kElements = 2 * kLanes;

  static Vector load(const BFloat16* p) { return Vector::loadu(p); }
  static Vector load(const BFloat16* p, int64_t count) { return Vector::loadu(p, count); }
  static Vec multiply_add(const Vector& v, const Kept* kept, const Vec& sum) {
    return _mm512_dpbf16_ps(sum, bits_as<__m512bh>(v), bits_as<__m512bh>(Vector::loadu(kept)));
  }
};
#endif

/// Sums of neighbouring lanes of a and b, one after the other.
inline Vec add_neighbours(const Vec& a, const Vec& b) {
  const auto [even, odd] = at::vec::deinterleave2(a, b);
  return even + odd;
}

/// Replaces `count` values by the sums of `group` neighbours each, a power of two; reads and writes
/// whole vectors.
inline void sum_groups(float* values, int64_t count, int64_t group) {
  for (; group > 1; group /= 2, count /= 2)
    for (int64_t i = 0; i < count; i += 2 * kLanes)
      add_neighbours(Vec::loadu(values + i), Vec::loadu(values + i + kLanes)).store(values + i / 2);
}

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
