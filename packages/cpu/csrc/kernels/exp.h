// SPDX-License-Identifier: Apache-2.0
//
// exp and 1 / x, accurate to the last bits, and for results of 16 bits as accurate as those show.
#pragma once

#include <limits>

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {

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
  // Minimax polynomial of exp(r) of degree 6 in this range.
  Vec p = at::vec::fmadd(r, Vec(1.39543193e-3f), Vec(8.37326981e-3f));
  p = at::vec::fmadd(p, r, Vec(4.16662395e-2f));
  p = at::vec::fmadd(p, r, Vec(1.66664734e-1f));
  p = at::vec::fmadd(p, r, Vec(0.5f));
  p = at::vec::fmadd(p, r, Vec(1.0f));
  p = at::vec::fmadd(p, r, Vec(1.0f));
#if defined(CPU_CAPABILITY_AVX512)
  const __mmask16 kept = _mm512_cmp_ps_mask(x, Vec(kLowest), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(kept, p, n);
#else
  // 2^n by its bits. 128 is one more than they hold, hence 2^(n - 1), twice.
  const Int exponent = (bits_as<Int>(rounded) + Int(126)) << Int(23);
  const Vec power = p * bits_as<Vec>(exponent) * Vec(2.0f);
  return Vec::blendv(power, Vec(0.0f), x < Vec(kLowest));
#endif
}

/// exp(x) where the result is rounded to 16 bits afterwards: relative error below 3e-6 where |x| <
/// 8 and 1e-5 anywhere, against 2.4e-4 of half a float16's last bit. inf and NaN as `exp`.
inline Vec exp_16bit(const Vec& x) {
  constexpr float kLog2E = 1.44269504f;
  // Minimax polynomial of 2^f of degree 4 for |f| <= 1/2, relative error 2.8e-6.
  const auto power_of_fraction = [](const Vec& f) {
    Vec p = at::vec::fmadd(f, Vec(9.58104711e-3f), Vec(5.59059717e-2f));
    p = at::vec::fmadd(p, f, Vec(2.40241453e-1f));
    p = at::vec::fmadd(p, f, Vec(6.93124354e-1f));
    return at::vec::fmadd(p, f, Vec(1.0f));
  };
  const Vec t = x * Vec(kLog2E);
#if defined(CPU_CAPABILITY_AVX512)
  const Vec fraction = _mm512_reduce_ps(t, _MM_FROUND_TO_NEAREST_INT);  // 0 of an infinity
  return _mm512_scalef_ps(power_of_fraction(fraction), t - fraction);
#else
  constexpr float kRounder = 12582912.0f;
  const Vec clamped = at::vec::clamp(t, Vec(-126.0f), Vec(127.0f));
  const Vec rounded = clamped + Vec(kRounder);
  const Vec p = power_of_fraction(clamped - (rounded - Vec(kRounder)));
  const Vec power = p * bits_as<Vec>((bits_as<Int>(rounded) + Int(127)) << Int(23));
  return Vec::blendv(power, Vec(std::numeric_limits<float>::infinity()), t >= Vec(128.0f));
#endif
}

/// exp(x) for results that are stored as T.
template <typename T>
inline Vec exp_for(const Vec& x) {
  if constexpr (std::is_same_v<T, float>)
    return exp(x);
  else
    return exp_16bit(x);
}

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
