// SPDX-License-Identifier: Apache-2.0
//
// Elements as kernels compute with them and access them: numbers of each dtype as float and back,
// and vectors of up to 16 bytes.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <vllm_ops/check.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace vllm_ops::cuda {

/// A number of a kernel's dtype as float.
__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

/// The number of dtype T nearest to x, ties to even; infinity where x is too large for it.
template <typename T>
__device__ inline T from_float(float x);
template <>
__device__ inline float from_float<float>(float x) {
  return x;
}
template <>
__device__ inline __half from_float<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

/// The widest access to memory that one thread makes, in bytes.
inline constexpr int64_t kVectorBytes = 16;

/// Elements of T in one such access.
template <typename T>
inline constexpr int kVectorSize = static_cast<int>(kVectorBytes / sizeof(T));

/// N neighbouring elements, accessed at once: N is kVectorSize<T>, half of that, or 1.
template <typename T, int N = kVectorSize<T>>
struct alignas(sizeof(T) * N) Vector {
  static_assert(N == 1 || N == kVectorSize<T> || N == kVectorSize<T> / 2);
  T values[N];
  __device__ T& operator[](int i) { return values[i]; }
  __device__ const T& operator[](int i) const { return values[i]; }
};

/// N numbers as floats.
template <int N>
struct Floats {
  float values[N];
  __device__ float& operator[](int i) { return values[i]; }
  __device__ float operator[](int i) const { return values[i]; }
};

/// The elements of a vector as floats: those of 16 bits by pairs, as they lie in registers.
template <typename T, int N>
__device__ inline Floats<N> to_floats(const Vector<T, N>& vector) {
  Floats<N> floats;
  if constexpr (N == 1 || sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) floats[i] = to_float(vector[i]);
  } else {
    uint32_t words[N / 2];
    memcpy(words, vector.values, sizeof(words));
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        floats[2 * i] = __uint_as_float(words[i] << 16);
        floats[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
      } else {
        __half2 pair;
        memcpy(&pair, &words[i], sizeof(pair));
        const float2 both = __half22float2(pair);
        floats[2 * i] = both.x, floats[2 * i + 1] = both.y;
      }
    }
  }
  return floats;
}

/// The vector of the numbers nearest to floats, ties to even.
template <typename T, int N>
__device__ inline Vector<T, N> from_floats(const Floats<N>& floats) {
  Vector<T, N> vector;
  if constexpr (N == 1 || sizeof(T) == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) vector[i] = from_float<T>(floats[i]);
  } else {
    uint32_t words[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(floats[2 * i], floats[2 * i + 1]);
        memcpy(&words[i], &pair, sizeof(pair));
      } else {
        const __half2 pair = __floats2half2_rn(floats[2 * i], floats[2 * i + 1]);
        memcpy(&words[i], &pair, sizeof(pair));
      }
    }
    memcpy(vector.values, words, sizeof(words));
  }
  return vector;
}

/// The sum of x over the lanes of a warp, for each of them. All have to call it.
__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int other = 16; other > 0; other /= 2) x += __shfl_xor_sync(~0u, x, other);
  return x;
}

/// Reads elements that lie at a multiple of N.
template <int N, typename T>
__device__ inline Vector<T, N> load(const T* from) {
  return *reinterpret_cast<const Vector<T, N>*>(from);
}

/// The same for elements that nobody reads again soon: the caches give their place away first.
template <int N, typename T>
__device__ inline Vector<T, N> load_once(const T* from) {
  Vector<T, N> vector;
  if constexpr (N == 1) {
    vector.values[0] = __ldcs(from);
  } else {
    static_assert(sizeof(vector) == kVectorBytes);
    *reinterpret_cast<uint4*>(vector.values) = __ldcs(reinterpret_cast<const uint4*>(from));
  }
  return vector;
}

/// Reads 16 bytes of a row of which this warp reads the 256 bytes around them too, but in pieces of
/// less than a line: the L2 cache fetches them all at once. Nobody reads them again soon.
__device__ inline uint4 load_with_neighbours(const void* from) {
  uint4 bits;
  asm volatile("ld.global.L1::no_allocate.L2::256B.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(bits.x), "=r"(bits.y), "=r"(bits.z), "=r"(bits.w)
               : "l"(from));
  return bits;
}

/// Writes 16 bytes to global memory. In the machine's language: the compiler takes the assignment
/// of a vector that it has just put together apart into stores of single words.
__device__ inline void store_bits(void* to, const uint4& bits) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
               : "memory");
}

/// The same for bytes that no kernel reads before the L2 cache has lost them: it gives their place
/// away first.
__device__ inline void store_bits_once(void* to, const uint4& bits) {
  asm volatile("st.global.cs.v4.b32 [%0], {%1, %2, %3, %4};"
               :
               : "l"(to), "r"(bits.x), "r"(bits.y), "r"(bits.z), "r"(bits.w)
               : "memory");
}

/// Writes elements to a multiple of N; kOnce: as store_bits_once.
template <int N, bool kOnce = false, typename T>
__device__ inline void store(T* to, const Vector<T, N>& vector) {
  if constexpr (N == 1) {
    *to = vector.values[0];
  } else {
    static_assert(sizeof(vector) == kVectorBytes);
    uint4 bits;
    memcpy(&bits, vector.values, sizeof(bits));
    if constexpr (kOnce)
      store_bits_once(to, bits);
    else
      store_bits(to, bits);
  }
}

/// Results from this size on are written as store_bits_once does it: with what was read for them
/// they are more than the L2 caches of the GPUs that there are hold. Measured on an H200, 4096 rows
/// of 4096 and more: 4 to 7 % faster; below, the next kernel would miss them.
constexpr int64_t kStoredOnceBytes = 24 << 20;

/// Whether an address can be accessed in whole vectors.
inline bool is_aligned(const void* address) {
  return reinterpret_cast<uintptr_t>(address) % kVectorBytes == 0;
}

/// Whether rows can be accessed in whole vectors, beginning at `offset` elements: address, width,
/// stride and offset are all multiples of one.
inline bool is_vectorizable(const View& v, const Rows& rows, int64_t offset = 0) {
  const auto fits = [&v](int64_t elements) { return elements * v.itemsize % kVectorBytes == 0; };
  return is_aligned(v.data) && fits(offset) && fits(rows.width) &&
         (rows.count <= 1 || fits(rows.stride));
}

}  // namespace vllm_ops::cuda
