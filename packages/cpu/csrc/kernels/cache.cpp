// SPDX-License-Identifier: Apache-2.0
//
// reshape_and_cache: the key and value of a token go to its slot, position slot % block_size of
// block slot / block_size. A key lies in pieces of 16 bytes, neighbouring tokens side by side; a
// value lies across: its element d is in row d of the block, so that a row holds one element of
// every token. Tokens of neighbouring slots are therefore written together: tiles of them are
// transposed in registers. Whole blocks are written line by line and past the caches, for nothing
// reads them before the next decoding step. Bits are copied as they are. Definition: vLLM's
// reshape_and_cache (Kwon et al., PagedAttention, 2023).

#include <vllm_ops/paged_layout.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Tokens that are written together at most.
constexpr int64_t kMaxRun = 64;

/// Keys and values are moved in quarters of a cache line, 16 bytes, of which pieces of keys are
/// too; by vectors of one quarter, or of four that go through everything side by side.
constexpr int kQuarter = 16, kLine = 64;
template <typename T>
constexpr int64_t kPerQuarter = kQuarter / sizeof(T);

template <typename T, int kBytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(kBytes)));
};
template <typename T, int kBytes>
using Vector = typename VectorOf<T, kBytes>::type;

template <int kBytes, typename T>
inline Vector<T, kBytes> load_row(const T* from) {
  Vector<T, kBytes> row;
  std::memcpy(&row, from, kBytes);
  return row;
}

template <typename T, typename Row>
inline void store_row(T* to, const Row& row) {
  std::memcpy(to, &row, sizeof(row));
}

/// Replaces a and b by their low and high elements, interleaved; in each quarter for itself.
template <typename Row, int... kElement>
inline void interleave(Row& a, Row& b, std::integer_sequence<int, kElement...>) {
  constexpr int n = kQuarter / sizeof(a[0]), all = sizeof...(kElement);
  // Element e of the result, at place p of quarter q, comes from a where p is even and from b where
  // it is odd.
  const auto low =
      __builtin_shufflevector(a, b, (kElement / n * n + kElement % n / 2 + kElement % 2 * all)...);
  const auto high = __builtin_shufflevector(
      a, b, (kElement / n * n + n / 2 + kElement % n / 2 + kElement % 2 * all)...);
  a = low, b = high;
}

/// A square tile in each quarter, transposed: row i holds column i of `from`, whose rows begin at
/// element `column`; the next quarter the columns behind the first tile's, and so on.
template <typename T, int kBytes>
struct Tile {
  static constexpr int64_t n = kPerQuarter<T>;
  Vector<T, kBytes> rows[n];

  Tile(const T* const* from, int64_t column) {
    for (int64_t i = 0; i < n; ++i) rows[i] = load_row<kBytes>(from[i] + column);
    // Interleaving rows i and i + n / 2, log2(n) times, is a transposition.
    for (int64_t level = 1; level < n; level *= 2) {
      Vector<T, kBytes> next[n];
      for (int64_t i = 0; i < n / 2; ++i) {
        auto a = rows[i], b = rows[i + n / 2];
        interleave(a, b, std::make_integer_sequence<int, kBytes / sizeof(T)>{});
        next[2 * i] = a, next[2 * i + 1] = b;
      }
      std::copy_n(next, n, rows);
    }
  }
};

/// Stores a line past the caches.
inline void stream_line(void* to, const Vector<uint64_t, kLine>& line) {
#if defined(__AVX512F__)
  _mm512_stream_si512(static_cast<__m512i*>(to), (__m512i)line);
#elif defined(__SSE2__)
  __m128i quarters[4];
  std::memcpy(quarters, &line, sizeof(line));
  for (int i = 0; i < 4; ++i) _mm_stream_si128(static_cast<__m128i*>(to) + i, quarters[i]);
#else
  std::memcpy(to, &line, sizeof(line));
#endif
}

/// Stores the line of four quarters past the caches; of vectors of four quarters the line of all
/// first ones, and at `stride` elements from it that of the second ones, and so on.
template <typename T, typename Row>
inline void stream_lines(T* to, int64_t stride, const Row& a, const Row& b, const Row& c,
                         const Row& d) {
  typedef Vector<uint64_t, sizeof(Row)> Words;
  if constexpr (sizeof(Row) == kQuarter) {
    const auto ab = __builtin_shufflevector((Words)a, (Words)b, 0, 1, 2, 3);
    const auto cd = __builtin_shufflevector((Words)c, (Words)d, 0, 1, 2, 3);
    stream_line(to, __builtin_shufflevector(ab, cd, 0, 1, 2, 3, 4, 5, 6, 7));
  } else {
    const auto ab01 = __builtin_shufflevector((Words)a, (Words)b, 0, 1, 8, 9, 2, 3, 10, 11);
    const auto cd01 = __builtin_shufflevector((Words)c, (Words)d, 0, 1, 8, 9, 2, 3, 10, 11);
    const auto ab23 = __builtin_shufflevector((Words)a, (Words)b, 4, 5, 12, 13, 6, 7, 14, 15);
    const auto cd23 = __builtin_shufflevector((Words)c, (Words)d, 4, 5, 12, 13, 6, 7, 14, 15);
    stream_line(to, __builtin_shufflevector(ab01, cd01, 0, 1, 2, 3, 8, 9, 10, 11));
    stream_line(to + stride, __builtin_shufflevector(ab01, cd01, 4, 5, 6, 7, 12, 13, 14, 15));
    stream_line(to + 2 * stride, __builtin_shufflevector(ab23, cd23, 0, 1, 2, 3, 8, 9, 10, 11));
    stream_line(to + 3 * stride, __builtin_shufflevector(ab23, cd23, 4, 5, 6, 7, 12, 13, 14, 15));
  }
}

/// One head of the keys of `count` tokens whose slots are neighbours.
template <typename T>
inline void write_keys(T* block,  // [head_size / x, block_size, x], at the first token's position
                       const T* const* from,  // [count] pointers to [head_size]
                       int64_t count, const PagedLayout& layout) {
  constexpr int64_t x = kPerQuarter<T>;
  for (int64_t d = 0; d < layout.head_size; d += x, block += layout.block_size * x)
    for (int64_t t = 0; t < count; ++t) store_row(block + t * x, load_row<kQuarter>(from[t] + d));
}

/// One head of the values of `count` tokens whose slots are neighbours.
template <typename T>
inline void write_values(T* block,  // [head_size, block_size], at the first token's position
                         const T* const* from,  // [count] pointers to [head_size]
                         int64_t count, const PagedLayout& layout) {
  constexpr int64_t n = kPerQuarter<T>;
  int64_t t = 0;
  for (; t + n <= count; t += n) {
    for (int64_t d = 0; d < layout.head_size; d += n) {
      const Tile<T, kQuarter> tile(from + t, d);
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
  constexpr int64_t n = kPerQuarter<T>;
  return layout.block_size == 2 * n || layout.block_size % (4 * n) == 0;
}

/// One head of tokens whose turn comes later. Its lines are fetched a few at a time, so that
/// fetching and copying overlap: tokens lie far apart, and the processor does not foresee the next
/// ones by itself.
template <typename T>
class Later {
 public:
  Later(const T* const* from, int64_t count, int64_t head, int64_t head_size)
      : from_(from),
        count_(count),
        offset_(head * head_size),
        end_(count > 0 ? offset_ + head_size : offset_) {}

  void fetch(int64_t lines) {
    constexpr int kToRead = 0, kSecondLevel = 2;
    for (; lines > 0 && offset_ < end_; --lines) {
      __builtin_prefetch(from_[token_] + offset_, kToRead, kSecondLevel);
      if (++token_ == count_) token_ = 0, offset_ += kLine / sizeof(T);
    }
  }

 private:
  const T* const* from_;  // [count] pointers to [heads, head_size]
  int64_t count_, offset_, end_, token_ = 0;
};

/// As write_keys for all tokens of a block, past the caches: elements from `d` on, as far as
/// vectors of kBytes reach.
template <int kBytes, typename T>
inline int64_t stream_keys(T* block, const T* const* from, int64_t d, const PagedLayout& layout,
                           Later<T>& later) {
  constexpr int64_t step = kBytes / sizeof(T);
  for (; d + step <= layout.head_size; d += step) {
    later.fetch(layout.block_size * kBytes / kLine);
    for (int64_t t = 0; t < layout.block_size; t += 4)
      stream_lines(block + d * layout.block_size + t * layout.x, layout.x * layout.block_size,
                   load_row<kBytes>(from[t] + d), load_row<kBytes>(from[t + 1] + d),
                   load_row<kBytes>(from[t + 2] + d), load_row<kBytes>(from[t + 3] + d));
  }
  return d;
}

/// As write_values for all tokens of a block, likewise.
template <int kBytes, typename T>
inline int64_t stream_values(T* block, const T* const* from, int64_t d, const PagedLayout& layout,
                             Later<T>& later) {
  constexpr int64_t n = kPerQuarter<T>, step = kBytes / sizeof(T);
  const int64_t size = layout.block_size;
  for (; d + step <= layout.head_size; d += step) {
    later.fetch(size * kBytes / kLine);
    if (size == 2 * n) {  // two rows are a line
      const Tile<T, kBytes> a(from, d), b(from + n, d);
      for (int64_t i = 0; i < n; i += 2)
        stream_lines(block + (d + i) * size, n * size, a.rows[i], b.rows[i], a.rows[i + 1],
                     b.rows[i + 1]);
    } else {
      for (int64_t t = 0; t < size; t += 4 * n) {
        const Tile<T, kBytes> a(from + t, d), b(from + t + n, d), c(from + t + 2 * n, d),
            e(from + t + 3 * n, d);
        for (int64_t i = 0; i < n; ++i)
          stream_lines(block + (d + i) * size + t, n * size, a.rows[i], b.rows[i], c.rows[i],
                       e.rows[i]);
      }
    }
  }
  return d;
}

#if defined(__AVX512BW__)
constexpr int kWide = kLine;
#else
constexpr int kWide = kQuarter;
#endif

/// Tokens of neighbouring slots in one block.
template <typename T>
struct Run {
  int64_t slot = 0, count = 0;
  const T *keys[kMaxRun], *values[kMaxRun];  // [count] pointers to [heads, head_size]
};

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
    const bool whole = past_caches && run.count == layout.block_size && has_whole_lines<T>(layout);
    for (int64_t head = 0; head < layout.heads; ++head) {
      if (whole) {
        Later<T> keys(next.keys, next.count, head, layout.head_size);
        Later<T> values(next.values, next.count, head, layout.head_size);
        stream_keys<kQuarter>(key_block, run.keys,
                              stream_keys<kWide>(key_block, run.keys, 0, layout, keys), layout,
                              keys);
        stream_values<kQuarter>(value_block, run.values,
                                stream_values<kWide>(value_block, run.values, 0, layout, values),
                                layout, values);
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
