// SPDX-License-Identifier: Apache-2.0
//
// Products of small matrices of 16-bit elements on tensor cores, summed up in float32. Fragments as
// in the PTX ISA, mma.m16n8k16: with lane = 4 row + column, a lane holds of
//   a [16, 16]: rows `row` and `row` + 8 at columns 2 `column` + {0, 1}, then both at + {8, 9}
//   b [16, 8]:  column `row` at rows 2 `column` + {0, 1}, then + {8, 9}
//   c [16, 8]:  row `row` at columns 2 `column` + {0, 1}, then row `row` + 8
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace vllm_ops::cuda {

/// c += a b.
template <typename T>
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]);
template <>
__device__ inline void multiply_add<__half>(float (&c)[4], const uint32_t (&a)[4],
                                            const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
template <>
__device__ inline void multiply_add<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4],
                                                   const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// CUDA's type of two elements.
template <typename T>
using PairOf = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;

/// Two neighbouring elements of a fragment: the first in the lower bits.
template <typename T>
__device__ inline uint32_t pair(T low, T high) {
  uint16_t bits[2];
  memcpy(&bits[0], &low, 2);
  memcpy(&bits[1], &high, 2);
  return bits[0] | static_cast<uint32_t>(bits[1]) << 16;
}

/// Two numbers rounded to neighbouring elements of a fragment.
template <typename T>
__device__ inline uint32_t rounded_pair(float2 numbers) {
  PairOf<T> both;
  if constexpr (std::is_same_v<T, __half>)
    both = __float22half2_rn(numbers);
  else
    both = __float22bfloat162_rn(numbers);
  uint32_t bits;
  memcpy(&bits, &both, sizeof(bits));
  return bits;
}

/// Neighbouring elements of a fragment as float32.
template <typename T>
__device__ inline float2 pair_to_floats(uint32_t pair) {
  PairOf<T> both;
  memcpy(&both, &pair, sizeof(both));
  if constexpr (std::is_same_v<T, __half>)
    return __half22float2(both);
  else
    return __bfloat1622float2(both);
}

}  // namespace vllm_ops::cuda
