// SPDX-License-Identifier: Apache-2.0
//
// reshape_and_cache: the key and value of a token go to its slot, position slot % block_size of
// block slot / block_size. A key lies in pieces of x elements, neighbouring tokens side by side; a
// value lies across: its element d is in row d of the block, so that a row holds one element of
// every token. Tokens of neighbouring slots are therefore written together: tiles of them are
// transposed in registers and leave as whole vectors. Bits are copied as they are. Definition:
// vLLM's reshape_and_cache (Kwon et al., PagedAttention, 2023).

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "paged_layout.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// A vector of 16 bytes, which every instruction set has.
template <typename T>
struct Tile {
  static constexpr int64_t size = 16 / sizeof(T);
  typedef T vector __attribute__((vector_size(16)));
};

/// One level of a transposition: interleaves the low and the high halves of a and b.
inline void interleave(Tile<uint32_t>::vector& a, Tile<uint32_t>::vector& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  a = low, b = high;
}
inline void interleave(Tile<uint16_t>::vector& a, Tile<uint16_t>::vector& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  const auto high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  a = low, b = high;
}

/// Transposes a square tile: row i of `to` becomes column i of `from`.
template <typename T>
inline void transpose_tile(T* to, int64_t to_stride, const T* const* from) {
  constexpr int64_t n = Tile<T>::size;
  typename Tile<T>::vector rows[n], next[n];
  for (int64_t i = 0; i < n; ++i) std::memcpy(&rows[i], from[i], sizeof(rows[i]));
  // Interleaving rows i and i + n / 2, log2(n) times, is a transposition.
  for (int64_t level = 1; level < n; level *= 2) {
    for (int64_t i = 0; i < n / 2; ++i) {
      auto a = rows[i], b = rows[i + n / 2];
      interleave(a, b);
      next[2 * i] = a, next[2 * i + 1] = b;
    }
    for (int64_t i = 0; i < n; ++i) rows[i] = next[i];
  }
  for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * to_stride, &rows[i], sizeof(rows[i]));
}

/// Writes one head of `count` tokens whose slots are neighbours in a block.
template <typename T>
inline void write_keys(T* block,  // [head_size / x, block_size, x], at the first token's position
                       const T* const* from,  // [count] pointers to [head_size]
                       int64_t count, const PagedLayout& layout) {
  const int64_t x = layout.x;
  for (int64_t d = 0; d < layout.head_size; d += x, block += layout.block_size * x)
    for (int64_t t = 0; t < count; ++t) std::memcpy(block + t * x, from[t] + d, 16);
}

template <typename T>
inline void write_values(T* block,  // [head_size, block_size], at the first token's position
                         const T* const* from,  // [count] pointers to [head_size]
                         int64_t count, const PagedLayout& layout) {
  constexpr int64_t n = Tile<T>::size;
  const int64_t tiled = layout.head_size / n * n;
  int64_t t = 0;
  for (; t + n <= count; t += n) {
    for (int64_t d = 0; d < tiled; d += n) {
      const T* rows[n];
      for (int64_t i = 0; i < n; ++i) rows[i] = from[t + i] + d;
      transpose_tile(block + d * layout.block_size + t, layout.block_size, rows);
    }
    for (int64_t d = tiled; d < layout.head_size; ++d)
      for (int64_t i = 0; i < n; ++i) block[d * layout.block_size + t + i] = from[t + i][d];
  }
  for (; t < count; ++t)
    for (int64_t d = 0; d < layout.head_size; ++d) block[d * layout.block_size + t] = from[t][d];
}

}  // namespace

template <typename T>
void reshape_and_cache(
    T* key_cache, T* value_cache, const T* key,
    const T* value,        // [tokens, heads, head_size], tokens at strides of their own
    const int64_t* slots,  // [tokens]
    const int64_t* order,  // [count] tokens in ascending order of their slots
    int64_t count, int64_t key_stride, int64_t value_stride, const PagedLayout& layout) {
  constexpr int64_t kMaxRun = 64;
  const T *keys[kMaxRun], *values[kMaxRun];
  for (int64_t i = 0; i < count;) {
    const int64_t slot = slots[order[i]], position = slot % layout.block_size;
    const int64_t longest = std::min({kMaxRun, layout.block_size - position, count - i});
    int64_t run = 0;
    for (; run < longest && slots[order[i + run]] == slot + run; ++run) {
      keys[run] = key + order[i + run] * key_stride;
      values[run] = value + order[i + run] * value_stride;
    }
    T* key_block =
        key_cache + slot / layout.block_size * layout.key_block_stride + position * layout.x;
    T* value_block = value_cache + slot / layout.block_size * layout.value_block_stride + position;
    for (int64_t head = 0; head < layout.heads; ++head) {
      write_keys(key_block, keys, run, layout);
      write_values(value_block, values, run, layout);
      key_block += layout.key_head_stride;
      value_block += layout.value_head_stride;
      for (int64_t t = 0; t < run; ++t) keys[t] += layout.head_size, values[t] += layout.head_size;
    }
    i += run;
  }
}
template decltype(reshape_and_cache<uint16_t>) reshape_and_cache<uint16_t>;
template decltype(reshape_and_cache<uint32_t>) reshape_and_cache<uint32_t>;

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
