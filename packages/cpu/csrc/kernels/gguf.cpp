// SPDX-License-Identifier: Apache-2.0
//
// ggml_dequantize: weights out of ggml's blocks. A block of 32 has a scale d (float16) and, where
// its type has one, a minimum m: w = d q + m, or d (q - 2^(bits-1)) without. A K block of 256 has d
// for the scales of its 8 or 16 groups: w = d scale q - dmin min. q's low bits lie as nibbles or
// pairs of bits, those of elements 16, 32 or 64 apart in one byte; a fifth or sixth bit lies
// elsewhere. A block is unpacked to float32 in the cache and rounded once. Definition: ggml's
// quantization formats (llama.cpp), as in GGUF's specification.

#include <vllm_ops/ggml_types.h>

#include <cstring>

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

inline float half_at(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return static_cast<float>(Half(bits, Half::from_bits()));
}

inline uint32_t word_at(const uint8_t* p) {
  uint32_t bits;
  std::memcpy(&bits, p, sizeof(bits));
  return bits;
}

// Each writes one block as float32. Bytes may alias anything: the compiler has to be told that they
// do not.

inline void unpack_q4_0(float* __restrict w, const uint8_t* __restrict b) {
  const float d = half_at(b);
  const uint8_t* const q = b + 2;
  for (int i = 0; i < 16; ++i) w[i] = d * static_cast<float>((q[i] & 15) - 8);
  for (int i = 0; i < 16; ++i) w[i + 16] = d * static_cast<float>((q[i] >> 4) - 8);
}

inline void unpack_q4_1(float* __restrict w, const uint8_t* __restrict b) {
  const float d = half_at(b), m = half_at(b + 2);
  const uint8_t* const q = b + 4;
  for (int i = 0; i < 16; ++i) w[i] = d * static_cast<float>(q[i] & 15) + m;
  for (int i = 0; i < 16; ++i) w[i + 16] = d * static_cast<float>(q[i] >> 4) + m;
}

/// Bit i of `high` is the fifth bit of element i.
inline void unpack_q5(float* __restrict w, float d, float m, uint32_t high,
                      const uint8_t* __restrict q) {
  for (int i = 0; i < 16; ++i)
    w[i] = d * static_cast<float>((q[i] & 15) | ((high >> i) & 1) << 4) + m;
  for (int i = 0; i < 16; ++i)
    w[i + 16] = d * static_cast<float>((q[i] >> 4) | ((high >> (i + 16)) & 1) << 4) + m;
}

inline void unpack_q5_0(float* __restrict w, const uint8_t* __restrict b) {
  const float d = half_at(b);
  unpack_q5(w, d, -16.0f * d, word_at(b + 2), b + 6);
}

inline void unpack_q5_1(float* __restrict w, const uint8_t* __restrict b) {
  unpack_q5(w, half_at(b), half_at(b + 2), word_at(b + 4), b + 8);
}

// Not inlined: within the loop over blocks GCC unrolls this one as a whole and leaves it scalar.
[[gnu::noinline]] void unpack_q8_0(float* __restrict w, const uint8_t* __restrict b) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) w[i] = d * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

/// 16 groups of 16; a group's byte is its scale (low nibble) and its minimum.
inline void unpack_q2_k(float* __restrict w, const uint8_t* __restrict b) {
  const uint8_t *scales = b, *q = b + 16;
  const float d = half_at(b + 80), dmin = half_at(b + 82);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(scales[group] & 15),
                min = dmin * static_cast<float>(scales[group] >> 4);
    const uint8_t* const bytes = q + group / 8 * 32 + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i)
      w[16 * group + i] = scale * static_cast<float>(bytes[i] >> shift & 3) - min;
  }
}

/// 16 groups of 16 with signed scales of 6 bits: four low bits in nibbles, two high ones in the
/// last four bytes.
inline void unpack_q3_k(float* __restrict w, const uint8_t* __restrict b) {
  const uint8_t *high = b, *q = b + 32, *scales = b + 96;
  const float d = half_at(b + 108);
  for (int group = 0; group < 16; ++group) {
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int top = scales[8 + group % 4] >> (group / 4 * 2) & 3;
    const float scale = d * static_cast<float>((low | top << 4) - 32);
    const uint8_t* const bytes = q + group / 8 * 32 + group % 2 * 16;
    const uint8_t* const high_bits = high + group % 2 * 16;
    const int shift = group % 8 / 2 * 2, bit = group / 2;
    for (int i = 0; i < 16; ++i)
      w[16 * group + i] =
          scale * static_cast<float>((bytes[i] >> shift & 3) - (high_bits[i] >> bit & 1 ? 0 : 4));
  }
}

/// Scale and minimum of group 0 … 7, each of 6 bits in 12 bytes.
inline void scale_and_min(const uint8_t* packed, int group, float& scale, float& min) {
  if (group < 4) {
    scale = static_cast<float>(packed[group] & 63);
    min = static_cast<float>(packed[group + 4] & 63);
  } else {
    scale = static_cast<float>((packed[group + 4] & 15) | packed[group - 4] >> 6 << 4);
    min = static_cast<float>(packed[group + 4] >> 4 | packed[group] >> 6 << 4);
  }
}

/// 8 groups of 32.
inline void unpack_q4_k(float* __restrict w, const uint8_t* __restrict b) {
  const float d = half_at(b), dmin = half_at(b + 2);
  for (int group = 0; group < 8; ++group) {
    float scale, min;
    scale_and_min(b + 4, group, scale, min);
    scale *= d, min *= dmin;
    const uint8_t* const q = b + 16 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i)
      w[32 * group + i] = scale * static_cast<float>(q[i] >> shift & 15) - min;
  }
}

/// As Q4_K, with a fifth bit: bit `group` of byte i in `high`.
inline void unpack_q5_k(float* __restrict w, const uint8_t* __restrict b) {
  const float d = half_at(b), dmin = half_at(b + 2);
  const uint8_t* const high = b + 16;
  for (int group = 0; group < 8; ++group) {
    float scale, min;
    scale_and_min(b + 4, group, scale, min);
    scale *= d, min *= dmin;
    const uint8_t* const q = b + 48 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i)
      w[32 * group + i] =
          scale * static_cast<float>((q[i] >> shift & 15) | (high[i] >> group & 1) << 4) - min;
  }
}

/// 16 groups of 16 with scales of 8 bits; runs of 32 elements share the bytes of their bits.
inline void unpack_q6_k(float* __restrict w, const uint8_t* __restrict b) {
  const uint8_t *low = b, *high = b + 128, *scales = b + 192;
  const float d = half_at(b + 208);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8, run = group % 8 / 2, within = group % 2 * 16;
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[group]));
    const uint8_t* const nibbles = low + 64 * half + run % 2 * 32 + within;
    const uint8_t* const pairs = high + 32 * half + within;
    for (int i = 0; i < 16; ++i)
      w[16 * group + i] =
          scale * static_cast<float>(
                      ((nibbles[i] >> run / 2 * 4 & 15) | (pairs[i] >> 2 * run & 3) << 4) - 32);
  }
}

template <int64_t kElements, int64_t kBytes, typename T, typename Unpack>
inline void convert_blocks(T* out, const uint8_t* blocks, int64_t count, const Unpack& unpack) {
  static_assert(kElements % kStep == 0);
  alignas(64) float block[kElements];
  for (int64_t i = 0; i < count; ++i, out += kElements, blocks += kBytes) {
    unpack(block, blocks);
    for (int64_t j = 0; j < kElements; j += kStep)
      store(out + j, from_order<T>(load(block + j, FullStep{})), FullStep{});
  }
}

/// Elements of a floating-point type S, at any alignment.
template <typename S, typename T>
inline void convert_elements(T* out, const uint8_t* elements, int64_t count) {
  const auto* const from = reinterpret_cast<const S*>(elements);
  for_steps(count, [=](int64_t i, auto step) {
    store(out + i, from_order<T>(in_order<S>(load(from + i, step))), step);
  });
}

}  // namespace

template <typename T>
[[gnu::flatten]] void ggml_dequantize(T* out,                 // [count * elements of a block]
                                      const uint8_t* blocks,  // [count * bytes of a block]
                                      GgmlType type, int64_t count) {
  switch (type) {
    case GgmlType::F32:
      return convert_elements<float>(out, blocks, count);
    case GgmlType::F16:
      return convert_elements<Half>(out, blocks, count);
    case GgmlType::BF16:
      return convert_elements<BFloat16>(out, blocks, count);
    case GgmlType::Q4_0:
      return convert_blocks<32, 18>(out, blocks, count, unpack_q4_0);
    case GgmlType::Q4_1:
      return convert_blocks<32, 20>(out, blocks, count, unpack_q4_1);
    case GgmlType::Q5_0:
      return convert_blocks<32, 22>(out, blocks, count, unpack_q5_0);
    case GgmlType::Q5_1:
      return convert_blocks<32, 24>(out, blocks, count, unpack_q5_1);
    case GgmlType::Q8_0:
      return convert_blocks<32, 34>(out, blocks, count, unpack_q8_0);
    case GgmlType::Q2_K:
      return convert_blocks<256, 84>(out, blocks, count, unpack_q2_k);
    case GgmlType::Q3_K:
      return convert_blocks<256, 110>(out, blocks, count, unpack_q3_k);
    case GgmlType::Q4_K:
      return convert_blocks<256, 144>(out, blocks, count, unpack_q4_k);
    case GgmlType::Q5_K:
      return convert_blocks<256, 176>(out, blocks, count, unpack_q5_k);
    case GgmlType::Q6_K:
      return convert_blocks<256, 210>(out, blocks, count, unpack_q6_k);
  }
}
VLLM_OPS_CPU_INSTANTIATE(ggml_dequantize)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
