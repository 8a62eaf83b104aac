// SPDX-License-Identifier: Apache-2.0
//
// rotary_embedding: each pair (x, y) of a head becomes (x cos - y sin, y cos + x sin), in place.
// Pair i is (i, i + rot_dim / 2) in neox order, (2i, 2i + 1) in GPT-J's. A row of the cache is the
// cosines, then the sines, of one position; batched_rotary_embedding adds an offset to the
// position. Bound by memory: a thread turns a few pairs of one head, 16 bytes at a time, and loads
// them beside the position, by which cosines and sines are found. float32 inside, one rounding at
// the end. Definition: vLLM's RotaryEmbedding (Su et al., RoFormer, 2021).
//
// Looking at positions would mean to wait for the device: a token whose row is not in the cache
// stays as it is.

#include <vllm_ops/kernel.h>
#include <vllm_ops/rotary.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

/// Of a block, and of a multiprocessor. With 2048, and so few registers that loads wait for each
/// other, calls take 1 to 3 % longer: measured on an H200, as the next one.
constexpr int kThreads = 128, kVectorThreads = 1536;

/// Of the blocks that run at once, one in so many fetches what it reads ahead: calls of 4096 tokens
/// take 0.6 % less so, and more where all do.
constexpr unsigned kEarlyShare = 4;

/// N pairs of a head (kPairs) that one thread turns at once. With N > 1 those are two vectors in
/// either order, `pair` elements from the beginning of each half of the head: threads side by side
/// access what lies side by side. `angles` are the cosines, and behind half of the elements the
/// sines.
template <typename T, int N>
struct TwoVectors {
  static constexpr int kPairs = N;
  Vector<T, N> x, y;

  __device__ void read(const T* head, int pair, int half) {
    x = load_once<N>(head + pair), y = load_once<N>(head + half + pair);
  }
  template <bool kOnce>
  __device__ void write(T* head, int pair, int half) const {
    store<N, kOnce>(head + pair, x), store<N, kOnce>(head + half + pair, y);
  }
};

/// One vector has the first elements of the pairs, the other the second ones.
template <typename T, int N>
struct Neox : TwoVectors<T, N> {
  using TwoVectors<T, N>::x, TwoVectors<T, N>::y;

  __device__ void turn(const T* angles, int pair, int half) {
    const Floats<N> cos = to_floats(load<N>(angles + pair)),
                    sin = to_floats(load<N>(angles + half + pair));
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

/// Each vector has N / 2 whole pairs.
template <typename T, int N>
struct GptJ : TwoVectors<T, N> {
  __device__ void turn(const T* angles, int pair, int half) {
    turn_vector(this->x, angles + pair / 2, half);
    turn_vector(this->y, angles + half / 2 + pair / 2, half);
  }

 private:
  static __device__ void turn_vector(Vector<T, N>& vector, const T* angles, int half) {
    const Floats<N / 2> cos = to_floats(load<N / 2>(angles)),
                        sin = to_floats(load<N / 2>(angles + half));
    Floats<N> numbers = to_floats(vector);
#pragma unroll
    for (int i = 0; i < N / 2; ++i) {
      const float a = numbers[2 * i], b = numbers[2 * i + 1];
      numbers[2 * i] = a * cos[i] - b * sin[i];
      numbers[2 * i + 1] = b * cos[i] + a * sin[i];
    }
    vector = from_floats<T>(numbers);
  }
};

/// One pair, wherever it lies.
template <typename T>
struct GptJ<T, 1> {
  static constexpr int kPairs = 1;
  T x, y;

  __device__ void read(const T* head, int pair, int) { x = head[2 * pair], y = head[2 * pair + 1]; }
  template <bool kOnce>
  __device__ void write(T* head, int pair, int) const {
    head[2 * pair] = x, head[2 * pair + 1] = y;
  }
  __device__ void turn(const T* angles, int pair, int half) {
    const float cos = to_float(angles[pair]), sin = to_float(angles[half + pair]);
    const float a = to_float(x), b = to_float(y);
    x = from_float<T>(a * cos - b * sin), y = from_float<T>(b * cos + a * sin);
  }
};

template <typename T>
struct RotaryArguments {
  T* query;                  // [tokens, query_heads, head_size], tokens query_stride apart
  T* key;                    // [tokens, key_heads, head_size], tokens key_stride apart
  const int64_t* positions;  // [tokens]
  const int64_t* offsets;    // [tokens], or null
  const T* cache;            // [rows, rot_dim]
  int64_t items;             // of all heads
  int64_t query_stride, key_stride, rows;
  int query_heads, heads;  // of a token: those of the query, and all
  int head_size, rot_dim;
  int head_items;         // of a head: each kPairs pairs
  bool once;              // nobody reads query and key soon
  unsigned early_blocks;  // that fetch what they read ahead
};

/// A thread does an item. Index: an unsigned integer that counts all items.
template <typename T, typename Pairs, typename Index>
__global__ void __launch_bounds__(kThreads, kVectorThreads / kThreads)
    rotary_kernel(const __grid_constant__ RotaryArguments<T> a) {
  let_next_kernel_start();
  // Before the kernel before this one has ended: where things are.
  const Index item = blockIdx.x * static_cast<Index>(kThreads) + threadIdx.x;
  if (item >= static_cast<Index>(a.items)) return;
  const Index of_all = item / static_cast<Index>(a.head_items);
  const int pair = static_cast<int>(item - of_all * a.head_items) * Pairs::kPairs,
            half = a.rot_dim / 2;
  const auto token = static_cast<int64_t>(of_all / static_cast<Index>(a.heads));
  const int of_token = static_cast<int>(of_all - static_cast<Index>(token) * a.heads);
  T* const head =
      of_token < a.query_heads
          ? a.query + token * a.query_stride + of_token * int64_t{a.head_size}
          : a.key + token * a.key_stride + (of_token - a.query_heads) * int64_t{a.head_size};
  if (is_early_block(a.early_blocks)) {
    fetch_line_at_begin(head + pair);
    fetch_line_at_begin(head + half + pair);
  }
  wait_for_previous_kernel();
  // No branch before the position is known: the head is loaded while it is on its way.
  Pairs pairs;
  pairs.read(head, pair, half);
  int64_t row = a.positions[token];
  if (a.offsets != nullptr) {
    // As unsigned numbers, of which the sum is defined, and wrong ones are found below.
    row =
        static_cast<int64_t>(static_cast<uint64_t>(row) + static_cast<uint64_t>(a.offsets[token]));
  }
  const bool known = row >= 0 && row < a.rows;
  pairs.turn(a.cache + (known ? row : 0) * a.rot_dim, pair, half);
  if (known && a.once)
    pairs.template write<true>(head, pair, half);
  else if (known)
    pairs.template write<false>(head, pair, half);
}

/// Whether heads can be turned in whole vectors: each begins at one, and so does its second half.
bool is_vectorizable(const RotaryCall& call) {
  const auto fits = [&call](int64_t elements) {
    return elements * call.query.itemsize % kVectorBytes == 0;
  };
  return is_aligned(call.query.data) && is_aligned(call.key.data) && is_aligned(call.cache.data) &&
         fits(call.head_size) && fits(call.query_heads.token_stride) &&
         fits(call.key_heads.token_stride) && fits(call.rot_dim / 2);
}

/// Turns all heads.
template <typename T, typename Pairs>
void launch_rotary(const DeviceCheck& check, const Launch& launch, const RotaryCall& call,
                   const int64_t* offsets) {
  constexpr int64_t kMostBlocks = 2147483647;
  const int64_t head_items = ceil_div(call.rot_dim / 2, Pairs::kPairs);
  const int64_t items = call.tokens() * call.heads() * head_items;
  const int64_t blocks = ceil_div(items, kThreads);
  if (blocks > kMostBlocks || call.heads() * call.head_size > kMostBlocks)
    check.fail("query", text("at most ", kMostBlocks, " elements of a token"),
               text("shape ", call.query.shape()));
  const RotaryArguments<T> arguments{
      .query = call.query.as<T>(),
      .key = call.key.as<T>(),
      .positions = call.positions.as<int64_t>(),
      .offsets = offsets,
      .cache = call.cache.as<T>(),
      .items = items,
      .query_stride = call.query_heads.token_stride,
      .key_stride = call.key_heads.token_stride,
      .rows = call.cache.size(0),
      .query_heads = static_cast<int>(call.query_heads.heads),
      .heads = static_cast<int>(call.heads()),
      .head_size = static_cast<int>(call.head_size),
      .rot_dim = static_cast<int>(call.rot_dim),
      .head_items = static_cast<int>(head_items),
      .once =
          call.tokens() * call.heads() * call.head_size * call.query.itemsize >= kStoredOnceBytes,
      .early_blocks = count_early_blocks(check, check.device(), kThreads, false) / kEarlyShare};
  const auto grid = static_cast<unsigned>(blocks);
  if (items <= kMostBlocks)
    launch.overlapping<rotary_kernel<T, Pairs, uint32_t>>(grid, kThreads, 0, arguments);
  else
    launch.overlapping<rotary_kernel<T, Pairs, uint64_t>>(grid, kThreads, 0, arguments);
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
        launch_rotary<T, Order<T, kVectorSize<T>>>(check, launch, call, offsets);
      else
        launch_rotary<T, Order<T, 1>>(check, launch, call, offsets);
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
