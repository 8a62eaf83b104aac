// SPDX-License-Identifier: Apache-2.0
//
// ggml_dequantize: weights out of ggml's blocks. A block of 32 has a scale d (float16) and, where
// its type has one, a minimum m: w = d q + m, or d (q - 2^(bits-1)) without. A K block of 256 has d
// for the scales of its 8 or 16 groups: w = d scale q - dmin min. A thread makes 8 neighbouring
// elements, whose bits lie at the same place of 8 neighbouring bytes, and writes them at once;
// float32 inside, one rounding. Blocks may begin at any byte: a tile of them passes through shared
// memory, 16 bytes at a time where they are aligned, and is read from there by words. Definition:
// ggml's quantization formats (llama.cpp), as in GGUF's specification.

#include <torch/csrc/stable/ops.h>
#include <vllm_ops/ggml.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/launch.cuh>

#include <bit>
#include <cstring>
#include <optional>

namespace vllm_ops::cuda {
namespace {

/// Elements that a thread makes; a divisor of every group's size.
constexpr int kRun = 8;

/// Blocks lie in shared memory at a multiple of 16 bytes; all that they consist of has an even
/// place.
__device__ inline float half_at(const uint8_t* p) {
  return __half2float(__ushort_as_half(*reinterpret_cast<const uint16_t*>(p)));
}

/// Eight neighbouring bytes, read by words of kAlign bytes. They are made numbers as the last bits
/// of 2^23, less that: a conversion has an eighth of the rate, and there is one for each element.
template <int kAlign>
class Bytes {
 public:
  __device__ explicit Bytes(const uint8_t* p) {
    if constexpr (kAlign % 4 == 0) {
      words_[0] = reinterpret_cast<const uint32_t*>(p)[0];
      words_[1] = reinterpret_cast<const uint32_t*>(p)[1];
    } else {
      const auto* const halves = reinterpret_cast<const uint16_t*>(p);
      words_[0] = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
      words_[1] = halves[2] | static_cast<uint32_t>(halves[3]) << 16;
    }
  }
  /// Bit i of a byte as byte i.
  __device__ static Bytes spread(uint32_t byte) {
    // Copies of four bits at multiples of 7, of which each byte keeps its own.
    const auto bits = [](uint32_t four) { return four * 0x00204081u & kEach; };
    return {bits(byte & 15), bits(byte >> 4)};
  }
  /// Of each byte, the bits of `mask` from bit `shift` on.
  __device__ Bytes bits(int shift, uint32_t mask) const {
    return {words_[0] >> shift & mask * kEach, words_[1] >> shift & mask * kEach};
  }
  __device__ Bytes operator|(const Bytes& other) const {
    return {words_[0] | other.words_[0], words_[1] | other.words_[1]};
  }
  __device__ Bytes operator<<(int shift) const { return {words_[0] << shift, words_[1] << shift}; }
  /// Byte i as a number; and one of two's complement.
  __device__ float number(int i) const { return with_exponent(words_[i / 4], i % 4) - kZero; }
  __device__ float signed_number(int i) const {
    return with_exponent(words_[i / 4] ^ 0x80 * kEach, i % 4) - (kZero + 128.0f);
  }

 private:
  static constexpr uint32_t kEach = 0x01010101u;
  static constexpr float kZero = 8388608.0f;  // 2^23

  __device__ Bytes(uint32_t first, uint32_t second) : words_{first, second} {}
  __device__ static float with_exponent(uint32_t word, int byte) {
    return __uint_as_float(__byte_perm(word, std::bit_cast<uint32_t>(kZero), 0x7540 | byte));
  }

  uint32_t words_[2];
};

/// Element i … i + 7 of one block, i being a multiple of 8.
template <GgmlType Type>
struct Block;

template <>
struct Block<GgmlType::Q4_0> {
  static constexpr int kElements = 32, kBytes = 18;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const float d = half_at(b);
    const auto q = Bytes<kBytes>(b + 2 + i % 16).bits(i / 16 * 4, 15);
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = d * (q.number(j) - 8.0f);
  }
};

template <>
struct Block<GgmlType::Q4_1> {
  static constexpr int kElements = 32, kBytes = 20;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const float d = half_at(b), m = half_at(b + 2);
    const auto q = Bytes<kBytes>(b + 4 + i % 16).bits(i / 16 * 4, 15);
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = d * q.number(j) + m;
  }
};

/// Bit i of `high` is the fifth bit of element i; `q` are the 8 bytes of the others.
template <int kAlign>
__device__ inline void unpack_q5(float (&w)[kRun], float d, float m, const uint8_t* high,
                                 const Bytes<kAlign>& q, int i) {
  const auto numbers = q.bits(i / 16 * 4, 15) | Bytes<kAlign>::spread(high[i / 8]) << 4;
#pragma unroll
  for (int j = 0; j < kRun; ++j) w[j] = d * numbers.number(j) + m;
}

template <>
struct Block<GgmlType::Q5_0> {
  static constexpr int kElements = 32, kBytes = 22;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const float d = half_at(b);
    unpack_q5(w, d, -16.0f * d, b + 2, Bytes<kBytes>(b + 6 + i % 16), i);
  }
};

template <>
struct Block<GgmlType::Q5_1> {
  static constexpr int kElements = 32, kBytes = 24;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    unpack_q5(w, half_at(b), half_at(b + 2), b + 4, Bytes<kBytes>(b + 8 + i % 16), i);
  }
};

template <>
struct Block<GgmlType::Q8_0> {
  static constexpr int kElements = 32, kBytes = 34;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const float d = half_at(b);
    const Bytes<kBytes> q(b + 2 + i);
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = d * q.signed_number(j);
  }
};

/// 16 groups of 16; a group's byte is its scale (low nibble) and its minimum.
template <>
struct Block<GgmlType::Q2_K> {
  static constexpr int kElements = 256, kBytes = 84;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const uint8_t packed = b[i / 16];
    const float scale = half_at(b + 80) * static_cast<float>(packed & 15),
                min = half_at(b + 82) * static_cast<float>(packed >> 4);
    const auto q = Bytes<kBytes>(b + 16 + i / 128 * 32 + i % 32).bits(i % 128 / 32 * 2, 3);
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = scale * q.number(j) - min;
  }
};

/// 16 groups of 16 with signed scales of 6 bits: four low bits in nibbles, two high ones in the
/// last four bytes.
template <>
struct Block<GgmlType::Q3_K> {
  static constexpr int kElements = 256, kBytes = 110;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const uint8_t* const scales = b + 96;
    const int group = i / 16;
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    const int top = scales[8 + group % 4] >> (group / 4 * 2) & 3;
    const float scale = half_at(b + 108) * static_cast<float>((low | top << 4) - 32);
    const auto q = Bytes<kBytes>(b + 32 + i / 128 * 32 + i % 32).bits(i % 128 / 32 * 2, 3) |
                   Bytes<kBytes>(b + i % 32).bits(i / 32, 1) << 2;
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = scale * (q.number(j) - 4.0f);
  }
};

/// Scale and minimum of group 0 … 7, each of 6 bits in 12 bytes.
__device__ inline void scale_and_min(const uint8_t* packed, int group, float& scale, float& min) {
  if (group < 4) {
    scale *= static_cast<float>(packed[group] & 63);
    min *= static_cast<float>(packed[group + 4] & 63);
  } else {
    scale *= static_cast<float>((packed[group + 4] & 15) | packed[group - 4] >> 6 << 4);
    min *= static_cast<float>(packed[group + 4] >> 4 | packed[group] >> 6 << 4);
  }
}

/// 8 groups of 32.
template <>
struct Block<GgmlType::Q4_K> {
  static constexpr int kElements = 256, kBytes = 144;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    float scale = half_at(b), min = half_at(b + 2);
    scale_and_min(b + 4, i / 32, scale, min);
    const auto q = Bytes<kBytes>(b + 16 + i / 64 * 32 + i % 32).bits(i / 32 % 2 * 4, 15);
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = scale * q.number(j) - min;
  }
};

/// As Q4_K, with a fifth bit: bit `group` of byte i in `high`.
template <>
struct Block<GgmlType::Q5_K> {
  static constexpr int kElements = 256, kBytes = 176;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    float scale = half_at(b), min = half_at(b + 2);
    const int group = i / 32;
    scale_and_min(b + 4, group, scale, min);
    const auto q = Bytes<kBytes>(b + 48 + i / 64 * 32 + i % 32).bits(group % 2 * 4, 15) |
                   Bytes<kBytes>(b + 16 + i % 32).bits(group, 1) << 4;
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = scale * q.number(j) - min;
  }
};

/// 16 groups of 16 with scales of 8 bits; runs of 32 elements share the bytes of their bits.
template <>
struct Block<GgmlType::Q6_K> {
  static constexpr int kElements = 256, kBytes = 210;
  static __device__ void unpack(float (&w)[kRun], const uint8_t* b, int i) {
    const int half = i / 128, run = i % 128 / 32;
    const float scale = half_at(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + i / 16]));
    const auto q = Bytes<kBytes>(b + 64 * half + run % 2 * 32 + i % 32).bits(run / 2 * 4, 15) |
                   Bytes<kBytes>(b + 128 + 32 * half + i % 32).bits(2 * run, 3) << 4;
#pragma unroll
    for (int j = 0; j < kRun; ++j) w[j] = scale * (q.number(j) - 32.0f);
  }
};

/// Threads of a block, and runs that each of them makes of a tile: enough to be read at once.
constexpr int kThreads = 256, kThreadRuns = 8;

template <typename T, typename B>
__global__ void __launch_bounds__(kThreads)
    unpack_blocks(T* __restrict__ out,                 // [count, elements of a block]
                  const uint8_t* __restrict__ blocks,  // [count, bytes of a block]
                  int64_t count, bool once) {
  constexpr int kRuns = B::kElements / kRun;             // of a block
  constexpr int kTile = kThreadRuns * kThreads / kRuns;  // blocks
  constexpr int kTileBytes = kTile * B::kBytes, kN = kVectorSize<T>;
  static_assert(kTileBytes % kVectorBytes == 0);
  __shared__ __align__(16) uint8_t tile[kTileBytes];
  let_next_kernel_start();
  wait_for_previous_kernel();
  for (int64_t first = blockIdx.x * int64_t{kTile}; first < count;
       first += gridDim.x * int64_t{kTile}) {
    const uint8_t* const from = blocks + first * B::kBytes;
    const int there = static_cast<int>(min(int64_t{kTile}, count - first));
    const int bytes = there * B::kBytes;
    // All of a thread's on their way before the first is there.
    const auto copy = [&](int vectors) {
      constexpr int kEach = ceil_div(kTileBytes / kVectorBytes, kThreads);
      uint4 vector[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        if (const int at = i * kThreads + threadIdx.x; at < vectors)
          vector[i] = __ldcs(reinterpret_cast<const uint4*>(from) + at);
#pragma unroll
      for (int i = 0; i < kEach; ++i)
        if (const int at = i * kThreads + threadIdx.x; at < vectors)
          reinterpret_cast<uint4*>(tile)[at] = vector[i];
    };
    const bool aligned = reinterpret_cast<uintptr_t>(from) % kVectorBytes == 0;
    if (aligned && there == kTile) {
      copy(kTileBytes / kVectorBytes);
    } else {
      const int whole = aligned ? bytes / static_cast<int>(kVectorBytes) : 0;
      copy(whole);
      for (int i = whole * static_cast<int>(kVectorBytes) + threadIdx.x; i < bytes; i += kThreads)
        tile[i] = from[i];
    }
    __syncthreads();
    // Not all at once: K blocks' code would take a quarter longer to come than blocks to be read.
#pragma unroll 4
    for (int r = 0; r < kThreadRuns; ++r) {
      const int run = r * kThreads + threadIdx.x, block = run / kRuns;
      if (block >= there) break;
      float w[kRun];
      B::unpack(w, tile + block * B::kBytes, run % kRuns * kRun);
      T* const to = out + first * B::kElements + run * kRun;
#pragma unroll
      for (int i = 0; i < kRun; i += kN) {
        Floats<kN> floats;
#pragma unroll
        for (int j = 0; j < kN; ++j) floats[j] = w[i + j];
        const Vector<T, kN> vector = from_floats<T>(floats);
        if (once)
          store<kN, true>(to + i, vector);
        else
          store(to + i, vector);
      }
    }
    __syncthreads();  // before the next tile
  }
}

/// Elements of a floating-point type S that begin at any byte.
template <typename T, typename S>
__global__ void __launch_bounds__(256)
    convert_elements(T* __restrict__ out, const uint8_t* __restrict__ elements, int64_t count) {
  for_each_item(1, count, [=](int64_t, int64_t item) {
    uint8_t bytes[sizeof(S)];
#pragma unroll
    for (int i = 0; i < static_cast<int>(sizeof(S)); ++i) bytes[i] = elements[item * sizeof(S) + i];
    S element;
    memcpy(&element, bytes, sizeof(S));
    out[item] = from_float<T>(to_float(element));
  });
}

template <typename T, GgmlType... Types>
void unpack(const Launch& launch, T* out, const uint8_t* blocks, GgmlType type, int64_t count) {
  const auto convert = [&](auto kernel) {
    const Tiles t = tiles(1, count);
    launch(kernel, t.grid, t.block, out, blocks, count);
  };
  switch (type) {
    case GgmlType::F32:
      return convert(convert_elements<T, float>);
    case GgmlType::F16:
      return convert(convert_elements<T, __half>);
    case GgmlType::BF16:
      return convert(convert_elements<T, __nv_bfloat16>);
    default:
      const auto unpack_if = [&](auto constant) {
        constexpr GgmlType kType = decltype(constant)::value;
        if (type != kType) return;
        using B = Block<kType>;
        constexpr int64_t kMostBlocks = 2147483647;  // of a grid
        const int64_t threads = count * (B::kElements / kRun);
        const int64_t tiles = ceil_div(threads, int64_t{kThreadRuns} * kThreads);
        launch.overlapping<unpack_blocks<T, B>>(
            static_cast<unsigned>(std::min(tiles, kMostBlocks)), kThreads, 0, out, blocks, count,
            threads * kRun * static_cast<int64_t>(sizeof(T)) >= kStoredOnceBytes);
      };
      (unpack_if(std::integral_constant<GgmlType, Types>{}), ...);
  }
}

}  // namespace

torch::stable::Tensor ggml_dequantize(const torch::stable::Tensor& W, int64_t type, int64_t m,
                                      int64_t n, std::optional<ScalarType> dtype) {
  DeviceCheck check("ggml_dequantize");
  const CheckedBlocks checked = check_ggml_blocks(check, W, type, m, n, dtype);
  const int64_t shape[] = {m, n};
  torch::stable::Tensor out = torch::stable::new_empty(W, {shape, 2}, checked.dtype);
  if (m == 0 || n == 0) return out;
  const MutableView o = check.output("the result", out);
  const Launch launch(check);
  dispatch_floating(checked.dtype, [&]<typename T>() {
    using enum GgmlType;
    unpack<T, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K>(
        launch, o.as<T>(), checked.blocks.as<uint8_t>(), checked.block.type,
        m * checked.row_blocks);
  });
  return out;
}
VLLM_OPS_KERNEL(CUDA, ggml_dequantize, ggml_dequantize)

}  // namespace vllm_ops::cuda
