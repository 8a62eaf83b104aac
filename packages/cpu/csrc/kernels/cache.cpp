// SPDX-License-Identifier: Apache-2.0
//
// reshape_and_cache: the key and value of a token go to its slot, position slot % block_size of
// block slot / block_size. A key lies in pieces of 16 bytes, neighbouring tokens side by side; a
// value lies across: its element d is in row d of the block, so that a row holds one element of
// every token. Tokens of neighbouring slots are therefore written together: tiles of them are
// transposed in registers. Whole blocks are written line by line and past the caches, for nothing
// reads them before the next decoding step. Bits are copied as they are. Definition: vLLM's
// reshape_and_cache (Kwon et al., PagedAttention, 2023).

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "paged_layout.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Tokens that are written together at most.
constexpr int64_t kMaxRun = 64;

/// Keys and values are moved by vectors of 16 bytes, which every instruction set has, and of which
/// pieces of keys are.
template <typename T>
struct Tile {
  static constexpr int64_t size = 16 / sizeof(T);
  typedef T Row __attribute__((vector_size(16)));
  Row rows[size];
};

template <typename T>
inline typename Tile<T>::Row load_row(const T* from) {
  typename Tile<T>::Row row;
  std::memcpy(&row, from, sizeof(row));
  return row;
}

template <typename T>
inline void store_row(T* to, const typename Tile<T>::Row& row) {
  std::memcpy(to, &row, sizeof(row));
}

/// Two vectors one after the other.
template <typename Row>
inline auto joined(const Row& a, const Row& b) {
  constexpr int n = sizeof(Row) / sizeof(a[0]);
  if constexpr (n == 2)
    return __builtin_shufflevector(a, b, 0, 1, 2, 3);
  else
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
}

/// Stores a cache line, four vectors one after the other, past the caches. In one piece where
/// possible: the line is complete at once then and need not be gathered.
template <typename Row>
inline void stream_line(void* to, const Row& a, const Row& b, const Row& c, const Row& d) {
  typedef uint64_t Words __attribute__((vector_size(16)));
#if defined(__AVX512F__)
  const auto line = joined(joined((Words)a, (Words)b), joined((Words)c, (Words)d));
  _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)line);
#elif defined(__AVX2__)
  _mm256_stream_si256(static_cast<__m256i*>(to), (__m256i)joined((Words)a, (Words)b));
  _mm256_stream_si256(static_cast<__m256i*>(to) + 1, (__m256i)joined((Words)c, (Words)d));
#else
  const Words quarters[4] = {(Words)a, (Words)b, (Words)c, (Words)d};
#if defined(__SSE2__)
  for (int i = 0; i < 4; ++i) _mm_stream_si128(static_cast<__m128i*>(to) + i, (__m128i)quarters[i]);
#else
  std::memcpy(to, quarters, sizeof(quarters));
#endif
#endif
}

/// Replaces a and b by their interleaved low and high halves.
inline void interleave(Tile<uint32_t>::Row& a, Tile<uint32_t>::Row& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 4, 1, 5),
             high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  a = low, b = high;
}
inline void interleave(Tile<uint16_t>::Row& a, Tile<uint16_t>::Row& b) {
  const auto low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  const auto high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  a = low, b = high;
}

/// A square tile, transposed: row i is column `column` + i of `from`.
template <typename T>
inline Tile<T> transposed(const T* const* from, int64_t column) {
  constexpr int64_t n = Tile<T>::size;
  Tile<T> tile, next;
  for (int64_t i = 0; i < n; ++i) tile.rows[i] = load_row(from[i] + column);
  // Interleaving rows i and i + n / 2, log2(n) times, is a transposition.
  for (int64_t level = 1; level < n; level *= 2) {
    for (int64_t i = 0; i < n / 2; ++i) {
      auto a = tile.rows[i], b = tile.rows[i + n / 2];
      interleave(a, b);
      next.rows[2 * i] = a, next.rows[2 * i + 1] = b;
    }
    tile = next;
  }
  return tile;
}

/// One head of the keys of `count` tokens whose slots are neighbours.
template <typename T>
inline void write_keys(T* block,  // [head_size / x, block_size, x], at the first token's position
                       const T* const* from,  // [count] pointers to [head_size]
                       int64_t count, const PagedLayout& layout) {
  constexpr int64_t x = Tile<T>::size;
  for (int64_t d = 0; d < layout.head_size; d += x, block += layout.block_size * x)
    for (int64_t t = 0; t < count; ++t) store_row(block + t * x, load_row(from[t] + d));
}

/// One head of the values of `count` tokens whose slots are neighbours.
template <typename T>
inline void write_values(T* block,  // [head_size, block_size], at the first token's position
                         const T* const* from,  // [count] pointers to [head_size]
                         int64_t count, const PagedLayout& layout) {
  constexpr int64_t n = Tile<T>::size;
  int64_t t = 0;
  for (; t + n <= count; t += n) {
    for (int64_t d = 0; d < layout.head_size; d += n) {
      const Tile<T> tile = transposed(from + t, d);
      for (int64_t i = 0; i < n; ++i)
        store_row(block + (d + i) * layout.block_size + t, tile.rows[i]);
    }
  }
  for (; t < count; ++t)
    for (int64_t d = 0; d < layout.head_size; ++d) block[d * layout.block_size + t] = from[t][d];
}

/// Whether blocks consist of whole cache lines of rows, which `stream_keys` and `stream_values`
/// want.
template <typename T>
inline bool has_whole_lines(const PagedLayout& layout) {
  constexpr int64_t n = Tile<T>::size;
  return layout.block_size == 2 * n || layout.block_size % (4 * n) == 0;
}

/// As write_keys for all tokens of a block, past the caches.
template <typename T>
inline void stream_keys(T* block, const T* const* from, const PagedLayout& layout) {
  constexpr int64_t x = Tile<T>::size;
  for (int64_t d = 0; d < layout.head_size; d += x)
    for (int64_t t = 0; t < layout.block_size; t += 4, block += 4 * x)
      stream_line(block, load_row(from[t] + d), load_row(from[t + 1] + d),
                  load_row(from[t + 2] + d), load_row(from[t + 3] + d));
}

/// As write_values for all tokens of a block, past the caches.
template <typename T>
inline void stream_values(T* block, const T* const* from, const PagedLayout& layout) {
  constexpr int64_t n = Tile<T>::size;
  for (int64_t d = 0; d < layout.head_size; d += n, block += n * layout.block_size) {
    if (layout.block_size == 2 * n) {  // two rows are a line
      const Tile<T> a = transposed(from, d), b = transposed(from + n, d);
      for (int64_t i = 0; i < n; i += 2)
        stream_line(block + i * layout.block_size, a.rows[i], b.rows[i], a.rows[i + 1],
                    b.rows[i + 1]);
    } else {
      for (int64_t t = 0; t < layout.block_size; t += 4 * n) {
        const Tile<T> a = transposed(from + t, d), b = transposed(from + t + n, d);
        const Tile<T> c = transposed(from + t + 2 * n, d), e = transposed(from + t + 3 * n, d);
        for (int64_t i = 0; i < n; ++i)
          stream_line(block + i * layout.block_size + t, a.rows[i], b.rows[i], c.rows[i],
                      e.rows[i]);
      }
    }
  }
}

/// Tokens of neighbouring slots in one block.
template <typename T>
struct Run {
  int64_t slot = 0, count = 0;
  const T *keys[kMaxRun], *values[kMaxRun];  // [count] pointers to [heads, head_size]
};

/// Brings one head of the tokens of a run, at element `offset`, nearer to the core. They lie far
/// apart, and the processor does not foresee that by itself.
template <typename T>
inline void prefetch(const Run<T>& run, int64_t offset, int64_t head_size) {
  constexpr int64_t kLine = 64 / sizeof(T);
  constexpr int kToRead = 0, kSecondLevel = 2;
  for (int64_t t = 0; t < run.count; ++t) {
    for (int64_t d = 0; d < head_size; d += kLine) {
      __builtin_prefetch(run.keys[t] + offset + d, kToRead, kSecondLevel);
      __builtin_prefetch(run.values[t] + offset + d, kToRead, kSecondLevel);
    }
  }
}

}  // namespace

template <typename T>
void reshape_and_cache(
    T* key_cache, T* value_cache, const T* key,
    const T* value,        // [tokens, heads, head_size], tokens at strides of their own
    const int64_t* slots,  // [tokens]
    const int64_t* order,  // [count] tokens in ascending order of their slots
    int64_t count, int64_t key_stride, int64_t value_stride, const PagedLayout& layout,
    bool past_caches) {  // whether there is so much of it, at aligned places, that it pays
  const auto take_run = [&](int64_t i, Run<T>& run) {
    run.count = 0;
    if (i == count) return;
    run.slot = slots[order[i]];
    const int64_t room = layout.block_size - run.slot % layout.block_size;
    const int64_t longest = std::min({kMaxRun, room, count - i});
    for (; run.count < longest && slots[order[i + run.count]] == run.slot + run.count;
         ++run.count) {
      run.keys[run.count] = key + order[i + run.count] * key_stride;
      run.values[run.count] = value + order[i + run.count] * value_stride;
    }
  };
  Run<T> runs[2];
  take_run(0, runs[0]);
  for (int64_t i = 0, turn = 0; i < count; turn ^= 1) {
    Run<T>&run = runs[turn], &next = runs[turn ^ 1];
    i += run.count;
    take_run(i, next);
    const int64_t block = run.slot / layout.block_size, position = run.slot % layout.block_size;
    T* key_block = key_cache + block * layout.key_block_stride + position * layout.x;
    T* value_block = value_cache + block * layout.value_block_stride + position;
    const bool whole =
        past_caches && run.count == layout.block_size && run.count % Tile<T>::size == 0;
    for (int64_t head = 0; head < layout.heads; ++head) {
      prefetch(next, head * layout.head_size, layout.head_size);
      if (whole) {
        stream_keys(key_block, run.keys, layout);
        stream_values(value_block, run.values, layout);
      } else {
        write_keys(key_block, run.keys, run.count, layout);
        write_values(value_block, run.values, run.count, layout);
      }
      key_block += layout.key_head_stride;
      value_block += layout.value_head_stride;
      for (int64_t t = 0; t < run.count; ++t)
        run.keys[t] += layout.head_size, run.values[t] += layout.head_size;
    }
  }
#if defined(__SSE2__)
  if (past_caches) _mm_sfence();
#endif
}
template decltype(reshape_and_cache<uint16_t>) reshape_and_cache<uint16_t>;
template decltype(reshape_and_cache<uint32_t>) reshape_and_cache<uint32_t>;

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
