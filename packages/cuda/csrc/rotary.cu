// SPDX-License-Identifier: Apache-2.0
//
// rotary_embedding: each pair (x, y) of a head becomes (x cos - y sin, y cos + x sin), in place.
// Pair i is (i, i + rot_dim / 2) in neox order, (2i, 2i + 1) in GPT-J's. A row of the cache is the
// cosines, then the sines, of one position; batched_rotary_embedding adds an offset to the
// position. Bound by memory: a thread turns a few pairs of one head, 16 bytes at a time, and loads
// them beside the position, cosines and sines. float32 inside, one rounding at
// the end. Definition: vLLM's RotaryEmbedding (Su et al., RoFormer, 2021).
//
// Looking at positions would mean to wait for the device: a token whose row is not in the cache
// stays as it is.

#include <vllm_ops/kernel.h>
#include <vllm_ops/rotary.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

constexpr int64_t kThreads = 256;

/// Elements of a head that one thread turns at once, as pairs of vectors x and y.
///
/// In neox order a step is kStep elements from each half of a head: N pairs. In GPT-J's it is N
/// neighbouring elements: N / 2 pairs, or one pair where N is 1.
template <typename T, int N>
struct Neox {
  static constexpr int kPairs = N;
  Vector<T, N> x, y;

  __device__ void read(const T* head, int64_t pair, int64_t half) {
    x = load_once<N>(head + pair), y = load_once<N>(head + half + pair);
  }
  template <bool kOnce>
  __device__ void write(T* head, int64_t pair, int64_t half) const {
    store<N, kOnce>(head + pair, x), store<N, kOnce>(head + half + pair, y);
  }
  __device__ void turn(const Floats<kPairs>& cos, const Floats<kPairs>& sin) {
    Floats<N> a = to_floats(x), b = to_floats(y);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float first = a[i];
      a[i] = first * cos[i] - b[i] * sin[i];
      b[i] = b[i] * cos[i] + first * sin[i];
    }
    x = from_floats<T>(a), y = from_floats<T>(b);
  }
};

template <typename T, int N>
struct GptJ {
  static constexpr int kPairs = N == 1 ? 1 : N / 2;
  static constexpr int kParts = N == 1 ? 2 : 1;  // vectors of N that hold those pairs
  Vector<T, N> part[kParts];

  __device__ void read(const T* head, int64_t pair, int64_t) {
#pragma unroll
    for (int p = 0; p < kParts; ++p) part[p] = load_once<N>(head + 2 * pair + p * N);
  }
  template <bool kOnce>
  __device__ void write(T* head, int64_t pair, int64_t) const {
#pragma unroll
    for (int p = 0; p < kParts; ++p) store<N, kOnce>(head + 2 * pair + p * N, part[p]);
  }
  __device__ void turn(const Floats<kPairs>& cos, const Floats<kPairs>& sin) {
    Floats<N> numbers[kParts];
#pragma unroll
    for (int p = 0; p < kParts; ++p) numbers[p] = to_floats(part[p]);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      float &x = numbers[2 * i / N][2 * i % N], &y = numbers[(2 * i + 1) / N][(2 * i + 1) % N];
      const float first = x;
      x = first * cos[i] - y * sin[i];
      y = y * cos[i] + first * sin[i];
    }
#pragma unroll
    for (int p = 0; p < kParts; ++p) part[p] = from_floats<T>(numbers[p]);
  }
};

/// Reads kCount numbers, at once if they are half a vector or a whole one.
template <int kCount, typename T>
__device__ inline Floats<kCount> read_floats(const T* from) {
  if constexpr (kCount == 1 || kCount == kVectorSize<T>) {
    return to_floats(load<kCount>(from));
  } else {
    static_assert(2 * kCount == kVectorSize<T>);
    struct alignas(kVectorBytes / 2) HalfVector {
      T values[kCount];
    };
    const auto vector = *reinterpret_cast<const HalfVector*>(from);
    Floats<kCount> floats;
#pragma unroll
    for (int i = 0; i < kCount; ++i) floats[i] = to_float(vector.values[i]);
    return floats;
  }
}

template <typename T>
struct RotaryArguments {
  T* query;                  // [tokens, query_heads, head_size], tokens query_stride apart
  T* key;                    // [tokens, key_heads, head_size], tokens key_stride apart
  const int64_t* positions;  // [tokens]
  const int64_t* offsets;    // [tokens], or null
  const T* cache;            // [rows, rot_dim]
  int64_t query_stride, key_stride, query_heads, key_heads, head_size, rot_dim, rows;
  bool once;  // nobody reads query and key soon
};

/// A block does one token (blockIdx.x): threadIdx.x goes through the pairs of a head, y through the
/// heads of query and key.
template <typename T, typename Pairs>
__global__ void __launch_bounds__(kThreads)
    rotary_kernel(const __grid_constant__ RotaryArguments<T> a) {
  let_next_kernel_start();
  wait_for_previous_kernel();
  const int64_t token = blockIdx.x;
  int64_t row = a.positions[token];
  if (a.offsets != nullptr) {
    // As unsigned numbers, of which the sum is defined, and wrong ones are found below.
    row =
        static_cast<int64_t>(static_cast<uint64_t>(row) + static_cast<uint64_t>(a.offsets[token]));
  }
  // No branch: heads are loaded while the position is still on its way.
  const bool known = row >= 0 && row < a.rows;
  const int64_t half = a.rot_dim / 2;
  const T* const angles = a.cache + (known ? row : 0) * a.rot_dim;
  T* const query = a.query + token * a.query_stride;
  T* const key = a.key + token * a.key_stride;
  const int64_t heads = a.query_heads + a.key_heads;
  const auto head_at = [&](int64_t head) {
    return head < a.query_heads ? query + head * a.head_size
                                : key + (head - a.query_heads) * a.head_size;
  };
  for (int64_t pair = static_cast<int64_t>(threadIdx.x) * Pairs::kPairs; pair < half;
       pair += static_cast<int64_t>(blockDim.x) * Pairs::kPairs) {
    for (int64_t at = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; at < heads;
         at += static_cast<int64_t>(gridDim.y) * blockDim.y) {
      T* const head = head_at(at);
      Pairs pairs;
      pairs.read(head, pair, half);
      pairs.turn(read_floats<Pairs::kPairs>(angles + pair),
                 read_floats<Pairs::kPairs>(angles + half + pair));
      if (known && a.once)
        pairs.template write<true>(head, pair, half);
      else if (known)
        pairs.template write<false>(head, pair, half);
    }
  }
}

/// Whether heads can be turned in whole vectors: each begins at one, and in neox order each half.
bool is_vectorizable(const RotaryCall& call) {
  const auto fits = [&call](int64_t elements) {
    return elements * call.query.itemsize % kVectorBytes == 0;
  };
  return is_aligned(call.query.data) && is_aligned(call.key.data) && is_aligned(call.cache.data) &&
         fits(call.head_size) && fits(call.query_heads.token_stride) &&
         fits(call.key_heads.token_stride) && fits(call.is_neox ? call.rot_dim / 2 : call.rot_dim);
}

/// Turns all heads, in grids that a launch allows.
template <typename T, typename Pairs>
void launch_rotary(const Launch& launch, const RotaryCall& call, const int64_t* offsets) {
  constexpr int64_t kMostTokens = 2147483647, kMostY = 65535;  // of one grid
  const int64_t x = std::min(ceil_div(call.rot_dim / 2, Pairs::kPairs), kThreads);
  // Rows of threads, shared out evenly over the blocks of a token.
  const int64_t y = ceil_div(call.heads(), ceil_div(call.heads(), kThreads / x));
  const dim3 block(static_cast<unsigned>(x), static_cast<unsigned>(y));
  RotaryArguments<T> part{
      call.query.as<T>(),
      call.key.as<T>(),
      call.positions.as<int64_t>(),
      offsets,
      call.cache.as<T>(),
      call.query_heads.token_stride,
      call.key_heads.token_stride,
      call.query_heads.heads,
      call.key_heads.heads,
      call.head_size,
      call.rot_dim,
      call.cache.size(0),
      call.tokens() * call.heads() * call.head_size * call.query.itemsize >= kStoredOnceBytes};
  for (int64_t token = 0; token < call.tokens(); token += kMostTokens) {
    const int64_t count = std::min(call.tokens() - token, kMostTokens);
    const dim3 grid(static_cast<unsigned>(count),
                    static_cast<unsigned>(std::min(ceil_div(call.heads(), y), kMostY)));
    launch.overlapping<rotary_kernel<T, Pairs>>(grid, block, 0, part);
    part.query += count * part.query_stride;
    part.key += count * part.key_stride;
    part.positions += count;
    if (part.offsets != nullptr) part.offsets += count;
  }
}

/// The second and third act of both launchers. `offsets` is null or one for each token.
void turn(const DeviceCheck& check, const RotaryCall& call, const int64_t* offsets) {
  if (call.tokens() == 0 || call.heads() == 0 || call.rot_dim == 0 || call.cache.size(0) == 0)
    return;
  const Launch launch(check);
  const bool vectors = is_vectorizable(call);
  dispatch_floating(call.query.dtype, [&]<typename T>() {
    const auto in_order = [&]<template <typename, int> typename Order>() {
      if (vectors)
        launch_rotary<T, Order<T, kVectorSize<T>>>(launch, call, offsets);
      else
        launch_rotary<T, Order<T, 1>>(launch, call, offsets);
    };
    if (call.is_neox)
      in_order.template operator()<Neox>();
    else
      in_order.template operator()<GptJ>();
  });
}

}  // namespace

void rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key, int64_t head_size,
                      const Tensor& cos_sin_cache, bool is_neox) {
  DeviceCheck check("rotary_embedding");
  const RotaryCall call =
      check_rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  turn(check, call, nullptr);
}
VLLM_OPS_KERNEL(CUDA, rotary_embedding, rotary_embedding)

void batched_rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key,
                              int64_t head_size, const Tensor& cos_sin_cache, bool is_neox,
                              int64_t rot_dim, const Tensor& cos_sin_cache_offsets) {
  DeviceCheck check("batched_rotary_embedding");
  const RotaryCall call =
      check_rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  const View offsets = check_rotary_offsets(check, call, rot_dim, cos_sin_cache_offsets);
  turn(check, call, offsets.as<int64_t>());
}
VLLM_OPS_KERNEL(CUDA, batched_rotary_embedding, batched_rotary_embedding)

}  // namespace vllm_ops::cuda
