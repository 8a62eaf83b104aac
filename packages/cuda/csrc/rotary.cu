// SPDX-License-Identifier: Apache-2.0
//
// rotary_embedding: each pair (x, y) of a head becomes (x cos - y sin, y cos + x sin), in place.
// Pair i is (i, i + rot_dim / 2) in neox order, (2i, 2i + 1) in GPT-J's. A row of the cache is the
// cosines, then the sines, of one position; batched_rotary_embedding adds an offset to the
// position. Bound by memory: a thread turns the same pairs of several heads of a token, 16 bytes at
// a time, by cosines and sines that it loads once. float32 inside, one rounding at the end.
// Definition: vLLM's RotaryEmbedding (Su et al., RoFormer, 2021).
//
// Looking at positions would mean to wait for the device: a token whose row is not in the cache
// stays as it is.

#include <vllm_ops/kernel.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

constexpr int64_t kThreads = 256;
/// Heads per thread where there are more tokens than multiprocessors can hold at once.
constexpr int kUnroll = 2;
/// Tokens per multiprocessor from which on a thread turns several heads.
constexpr int64_t kUnrolledTokens = 4;

/// Elements of a head that one thread turns at once, as pairs of vectors x and y.
///
/// In neox order a step is kStep elements from each half of a head: N pairs. In GPT-J's it is N
/// neighbouring elements: N / 2 pairs, or one pair where N is 1.
template <typename T, int N>
struct Neox {
  static constexpr int kPairs = N;
  Vector<T, N> x, y;

  __device__ void read(const T* head, int64_t pair, int64_t half) {
    x = load<N>(head + pair), y = load<N>(head + half + pair);
  }
  __device__ void write(T* head, int64_t pair, int64_t half) const {
    store(head + pair, x), store(head + half + pair, y);
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
    for (int p = 0; p < kParts; ++p) part[p] = load<N>(head + 2 * pair + p * N);
  }
  __device__ void write(T* head, int64_t pair, int64_t) const {
#pragma unroll
    for (int p = 0; p < kParts; ++p) store(head + 2 * pair + p * N, part[p]);
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
};

/// A block does one token (blockIdx.x): threadIdx.x goes through the pairs of a head, y through the
/// heads of query and key.
template <typename T, typename Pairs, int kHeads>
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
  if (row < 0 || row >= a.rows) return;
  const int64_t half = a.rot_dim / 2;
  const T* const angles = a.cache + row * a.rot_dim;
  T* const query = a.query + token * a.query_stride;
  T* const key = a.key + token * a.key_stride;
  const int64_t heads = a.query_heads + a.key_heads;
  const int64_t step = static_cast<int64_t>(gridDim.y) * blockDim.y;
  const auto head_at = [&](int64_t head) {
    return head < a.query_heads ? query + head * a.head_size
                                : key + (head - a.query_heads) * a.head_size;
  };
  for (int64_t pair = static_cast<int64_t>(threadIdx.x) * Pairs::kPairs; pair < half;
       pair += static_cast<int64_t>(blockDim.x) * Pairs::kPairs) {
    const auto cos = read_floats<Pairs::kPairs>(angles + pair);
    const auto sin = read_floats<Pairs::kPairs>(angles + half + pair);
    for (int64_t first = static_cast<int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; first < heads;
         first += kHeads * step) {
      // All loads before the first store, which the compiler would not let them pass.
      Pairs pairs[kHeads];
#pragma unroll
      for (int h = 0; h < kHeads; ++h)
        if (first + h * step < heads) pairs[h].read(head_at(first + h * step), pair, half);
#pragma unroll
      for (int h = 0; h < kHeads; ++h) {
        if (first + h * step < heads) {
          pairs[h].turn(cos, sin);
          pairs[h].write(head_at(first + h * step), pair, half);
        }
      }
    }
  }
}

/// The heads of all tokens in one of the two tensors that are turned.
struct Heads {
  int64_t tokens, heads, token_stride;
};

/// Reads [...positions, heads * head_size] or [...positions, heads, head_size].
Heads check_heads(const Check& check, const MutableView& states, const View& positions,
                  int64_t head_size) {
  check.rank(states, positions.dim + 1, positions.dim + 2);
  for (int64_t d = 0; d < positions.dim; ++d)
    check.size(states, d, positions.size(d), "as in 'positions'");
  const bool split = states.dim == positions.dim + 2;
  if (split)
    check.size(states, states.dim - 1, head_size, "head_size");
  else if (states.size(-1) % head_size != 0)
    check.fail(states.name, text("a multiple of head_size, ", head_size, ", as its last dimension"),
               text("shape ", states.shape()));
  const Rows tokens = check.rows(states, positions.dim);
  return {tokens.count, tokens.width / head_size, tokens.stride};
}

/// The arguments that both ops have, checked.
struct Rotary {
  View positions, cache;
  MutableView query, key;
  Heads query_heads, key_heads;
  int64_t head_size, rot_dim;
  bool is_neox;

  Rotary(DeviceCheck& check, const Tensor& position_tensor, Tensor& query_tensor,
         Tensor& key_tensor, int64_t size, const Tensor& cache_tensor, bool neox)
      : positions(check.input("positions", position_tensor)),
        cache(check.input("cos_sin_cache", cache_tensor)),
        query(check.output("query", query_tensor)),
        key(check.output("key", key_tensor)),
        head_size(size),
        is_neox(neox) {
    if (head_size <= 0) check.fail("head_size", "a positive number", text(head_size));
    check.dtype(positions, ScalarType::Long);
    check.rank(positions, 1, 2);
    check.contiguous(positions);
    check.floating(query);
    check.same_dtype(key, query);
    query_heads = check_heads(check, query, positions, head_size);
    key_heads = check_heads(check, key, positions, head_size);
    check.same_dtype(cache, query);
    check.rank(cache, 2);
    check.contiguous(cache);
    rot_dim = cache.size(1);
    if (rot_dim % 2 != 0 || rot_dim > head_size)
      check.fail("cos_sin_cache", text("an even width of at most head_size, ", head_size),
                 text("shape ", cache.shape()));
    check.disjoint(key, query);
    for (const MutableView& states : {query, key}) {
      check.disjoint(states, cache);
      check.disjoint(states, positions);
    }
  }

  /// Whether heads can be turned in whole vectors: each begins at one, and in neox order each half.
  bool vectors() const {
    const auto fits = [this](int64_t elements) {
      return elements * query.itemsize % kVectorBytes == 0;
    };
    return is_aligned(query.data) && is_aligned(key.data) && is_aligned(cache.data) &&
           fits(head_size) && fits(query_heads.token_stride) && fits(key_heads.token_stride) &&
           fits(is_neox ? rot_dim / 2 : rot_dim);
  }

  void turn(const DeviceCheck& check, const int64_t* offsets) const {
    const int64_t tokens = query_heads.tokens, heads = query_heads.heads + key_heads.heads;
    if (tokens == 0 || heads == 0 || rot_dim == 0) return;
    const Launch launch(check);
    const bool much = tokens > kUnrolledTokens * multiprocessors(check, check.device());
    dispatch_floating(query.dtype, [&]<typename T>() {
      const auto with = [&]<typename Pairs, int kHeads>() {
        run<T, Pairs, kHeads>(launch, offsets);
      };
      const auto in_order = [&]<template <typename, int> typename Order>() {
        if (!vectors())
          with.template operator()<Order<T, 1>, 1>();
        else if (!much)
          with.template operator()<Order<T, kVectorSize<T>>, 1>();
        else
          with.template operator()<Order<T, kVectorSize<T>>, kUnroll>();
      };
      if (is_neox)
        in_order.template operator()<Neox>();
      else
        in_order.template operator()<GptJ>();
    });
  }

 private:
  template <typename T, typename Pairs, int kHeads>
  void run(const Launch& launch, const int64_t* offsets) const {
    constexpr int64_t kMostTokens = 2147483647, kMostY = 65535;  // of one grid
    const int64_t heads = query_heads.heads + key_heads.heads;
    const int64_t x = std::min(ceil_div(rot_dim / 2, Pairs::kPairs), kThreads);
    const int64_t y = std::min(ceil_div(heads, kHeads), kThreads / x);
    const dim3 block(static_cast<unsigned>(x), static_cast<unsigned>(y));
    RotaryArguments<T> part{query.as<T>(),
                            key.as<T>(),
                            positions.as<int64_t>(),
                            offsets,
                            cache.as<T>(),
                            query_heads.token_stride,
                            key_heads.token_stride,
                            query_heads.heads,
                            key_heads.heads,
                            head_size,
                            rot_dim,
                            cache.size(0)};
    for (int64_t token = 0; token < query_heads.tokens; token += kMostTokens) {
      const int64_t count = std::min(query_heads.tokens - token, kMostTokens);
      const dim3 grid(static_cast<unsigned>(count),
                      static_cast<unsigned>(std::min(ceil_div(heads, y * kHeads), kMostY)));
      launch.overlapping<rotary_kernel<T, Pairs, kHeads>>(grid, block, 0, part);
      part.query += count * part.query_stride;
      part.key += count * part.key_stride;
      part.positions += count;
      if (part.offsets != nullptr) part.offsets += count;
    }
  }
};

}  // namespace

void rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key, int64_t head_size,
                      const Tensor& cos_sin_cache, bool is_neox) {
  DeviceCheck check("rotary_embedding");
  const Rotary rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  rotary.turn(check, nullptr);
}
VLLM_OPS_KERNEL(CUDA, rotary_embedding, rotary_embedding)

void batched_rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key,
                              int64_t head_size, const Tensor& cos_sin_cache, bool is_neox,
                              int64_t rot_dim, const Tensor& cos_sin_cache_offsets) {
  DeviceCheck check("batched_rotary_embedding");
  const Rotary rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  if (rot_dim != rotary.rot_dim)
    check.fail("rot_dim", text("the width of 'cos_sin_cache', ", rotary.rot_dim), text(rot_dim));
  const View offsets = check.input("cos_sin_cache_offsets", cos_sin_cache_offsets);
  const int64_t tokens = rotary.positions.numel();
  check.dtype(offsets, ScalarType::Long);
  check.rank(offsets, 1, 2);
  check.contiguous(offsets);
  if (offsets.numel() != tokens)
    check.fail("cos_sin_cache_offsets", text("one number for each of ", tokens, " tokens"),
               text("shape ", offsets.shape()));
  for (const MutableView& states : {rotary.query, rotary.key}) check.disjoint(states, offsets);
  rotary.turn(check, offsets.as<int64_t>());
}
VLLM_OPS_KERNEL(CUDA, batched_rotary_embedding, batched_rotary_embedding)

}  // namespace vllm_ops::cuda
