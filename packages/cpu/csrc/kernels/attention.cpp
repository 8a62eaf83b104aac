// SPDX-License-Identifier: Apache-2.0
//
// paged_attention: out = softmax(scale q k^T + bias) v for one query token per sequence over a
// paged cache. ALiBi's bias is slope * (t - seq_len + 1). Heads that share a key head (grouped
// queries) are worked on together, so that keys and values are read once for all of them; keys are
// taken in chunks whose scores stay in the cache, and what was summed up before is rescaled from
// chunk to chunk. float32 inside, one rounding at the end. Keys lie in pieces of x elements: a
// vector holds pieces of neighbouring tokens, and sums over x neighbouring lanes are their scores.
// Values lie across: a vector holds one element of neighbouring tokens. Definition: vLLM's
// PagedAttention (Kwon et al., 2023); ALiBi (Press et al., 2021); online softmax (Milakov and
// Gimelshein, 2018).

#include <algorithm>
#include <cstring>
#include <limits>

#include "dot.h"
#include "exp.h"
#include "paged_attention.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

/// Slots for the scores of a chunk. Each run of tokens takes whole vectors of them.
constexpr int64_t kChunk = 512;
/// Query heads worked on together: with kRows rows each they fill the registers with sums.
constexpr int64_t kHeads = kLanes >= 16 ? 4 : 2;
/// Vectors of keys, or rows of values, worked on together.
constexpr int64_t kRows = 4;
/// Lanes that hold the sum of one row of values until the end.
constexpr int64_t kLanesPerRow = kLanes / kRows;

/// How far ahead of their use keys are fetched.
constexpr int64_t kBlocksAhead = 3;

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// The same for four vectors, twice: lane i is the sum of four neighbours.
inline Vec add_fours(const Vec (&v)[kRows]) {
  return add_neighbours(add_neighbours(v[0], v[1]), add_neighbours(v[2], v[3]));
}

inline float largest(const Vec& v) {
  alignas(64) float lanes[kLanes];
  v.store(lanes);
  float most = lanes[0];
  for (int64_t i = 1; i < kLanes; ++i)
    most = lanes[i] > most || lanes[i] != lanes[i] ? lanes[i] : most;
  return most;
}

/// exp of one number, by the same definition as that of vectors.
inline float exp_of(float x) {
  alignas(64) float lanes[kLanes];
  exp(Vec(x)).store(lanes);
  return lanes[0];
}

/// Neighbouring tokens within a block.
template <typename T>
struct Run {
  const T* keys;      // [head_size / x, block_size, x], at the first token
  const T* values;    // [head_size, block_size], at the first token
  int64_t token;      // number of the first token in its sequence
  int64_t count;      // of tokens
  int64_t available;  // tokens up to the end of the block: there is memory of so many
  int64_t slot;       // of the first score in the chunk, a multiple of kLanes
  uint32_t heads;     // bit h: head h of the group sees these keys
};

/// Elements of a piece of a query, repeated until they fill a vector.
template <typename T>
inline int64_t piece_width(const PagedLayout& layout) {
  return std::max(layout.x, Dot<T>::kElements);
}

template <typename T>
using Kept = typename Dot<T>::Kept;

/// The query heads worked on together, and their working memory.
struct Group {
  int64_t first, count;  // heads
  float* queries;        // [count, pieces, piece_width] of Kept<T>
  float* scores;         // [count, kChunk]
  float* sums;  // [count, ceil(head_size / kRows), kLanes]: kLanesPerRow lanes for each element
  int64_t queries_stride, sums_stride;  // from head to head
  float maximum[kHeads], total[kHeads];
};

template <typename T>
inline void load_queries(Group& group, const T* query, const PagedLayout& layout) {
  const int64_t width = piece_width<T>(layout);
  for (int64_t h = 0; h < group.count; ++h) {
    const T* const q = query + (group.first + h) * layout.head_size;
    auto* to = reinterpret_cast<Kept<T>*>(group.queries + h * group.queries_stride);
    for (int64_t d = 0; d < layout.head_size; d += layout.x, to += width)
      for (int64_t i = 0; i < width; ++i) to[i] = static_cast<Kept<T>>(q[d + i % layout.x]);
  }
}

/// What is fetched while the keys of a run are worked on: the keys of a later block, and the run's
/// own values, whose turn comes when the whole chunk has its scores. Blocks lie anywhere in memory,
/// and the processor does not foresee where the next one is. A little at a time, so that fetching
/// and arithmetic overlap.
template <typename T>
struct Ahead {
  const T *keys, *values;  // whole blocks; null where there is none

  void fetch(int64_t count) {
    fetch(keys, count);
    fetch(values, count);
  }

 private:
  static void fetch(const T*& from, int64_t count) {
    if (from == nullptr) return;
    prefetch(from, count);
    from += count;
  }
};

/// Products of queries and keys, summed over the pieces, for kRows vectors of keys. `available`
/// elements of a piece may be read.
template <int H, bool kFull, typename T>
inline void multiply_keys(Vec (&sums)[H][kRows], const Group& group, const T* keys,
                          int64_t available, const PagedLayout& layout, Ahead<T>& ahead) {
  using D = Dot<T>;
  for (int h = 0; h < H; ++h)
    for (int r = 0; r < kRows; ++r) sums[h][r] = Vec(0.0f);
  const int64_t width = piece_width<T>(layout), piece = layout.block_size * layout.x;
  const int64_t pieces = layout.head_size / layout.x;
  const float* q = group.queries;
  for (int64_t p = 0; p < pieces;
       ++p, keys += piece, q += width * sizeof(Kept<T>) / sizeof(float)) {
    ahead.fetch(kRows * D::kElements);
    for (int r = 0; r < kRows; ++r) {
      const int64_t i = r * D::kElements;
      const auto k = kFull ? D::load(keys + i)
                           : D::load(keys + i, std::clamp(available - i, int64_t{0}, D::kElements));
      for (int h = 0; h < H; ++h) {
        const auto* const piece_of_head =
            reinterpret_cast<const Kept<T>*>(q + h * group.queries_stride);
        sums[h][r] = D::multiply_add(k, piece_of_head + i % width, sums[h][r]);
      }
    }
  }
}

/// Scores of a run, without scale: scores[h][slot + i] of its token i. Slots behind the last token
/// get anything.
template <int H, typename T>
[[gnu::flatten]] inline void score(const Group& group, const Run<T>& run, const PagedLayout& layout,
                                   Ahead<T> ahead) {
  constexpr int64_t kStepElements = kRows * Dot<T>::kElements;
  const int64_t steps = layout.x / Dot<T>::kPerLane / kRows;  // for kLanes tokens
  for (int64_t t = 0; t < run.count; t += kLanes) {
    alignas(64) float fours[H][16 / kRows * kLanes];
    const int64_t elements = std::min(kLanes, run.available - t) * layout.x;
    for (int64_t step = 0; step < steps; ++step) {
      const T* const keys = run.keys + t * layout.x + step * kStepElements;
      const int64_t available = elements - step * kStepElements;
      Vec sums[H][kRows];
      if (available >= kStepElements)
        multiply_keys<H, true>(sums, group, keys, available, layout, ahead);
      else
        multiply_keys<H, false>(sums, group, keys, available, layout, ahead);
      for (int h = 0; h < H; ++h) add_fours(sums[h]).store(fours[h] + step * kLanes);
    }
    for (int h = 0; h < H; ++h) {
      sum_groups(fours[h], steps * kLanes, steps);
      Vec::loadu(fours[h]).store(group.scores + h * kChunk + run.slot + t);
    }
  }
}

/// Turns the scores of a chunk into weights: exp of their distance to the largest so far, by which
/// everything summed up before is rescaled.
template <typename T>
[[gnu::flatten]] inline void weigh(Group& group, int64_t h, const Run<T>* runs, int64_t count,
                                   int64_t slots, float scale, float slope, int64_t seq_len) {
  float* const scores = group.scores + h * kChunk;
  Vec most(kMinusInfinity);
  for (const Run<T>* run = runs; run < runs + count; ++run) {
    float* const s = scores + run->slot;
    for (int64_t t = 0; t < run->count; t += kLanes) {
      const Vec distance = Vec::arange(static_cast<float>(run->token + t - seq_len + 1), 1.0f);
      Vec v = at::vec::fmadd(Vec(slope), distance, Vec::loadu(s + t) * Vec(scale));
      if (!(run->heads >> h & 1)) v = Vec(kMinusInfinity);
      if (run->count - t < kLanes) v = Vec::set(Vec(kMinusInfinity), v, run->count - t);
      v.store(s + t);
      most = at::vec::maximum(most, v);
    }
  }
  const float maximum = largest(at::vec::maximum(most, Vec(group.maximum[h])));
  if (maximum == kMinusInfinity) {  // no key so far
    std::fill_n(scores, slots, 0.0f);
    return;
  }
  Vec total(0.0f);
  for (int64_t i = 0; i < slots; i += kLanes) {
    const Vec weight = exp(Vec::loadu(scores + i) - Vec(maximum));
    weight.store(scores + i);
    total = total + weight;
  }
  const float rescale = exp_of(group.maximum[h] - maximum);
  group.maximum[h] = maximum;
  group.total[h] = group.total[h] * rescale + sum(total);
  if (rescale == 1.0f) return;
  float* const sums = group.sums + h * group.sums_stride;
  for (int64_t i = 0; i < group.sums_stride; i += kLanes)
    (Vec::loadu(sums + i) * Vec(rescale)).store(sums + i);
}

/// Adds the weighted values of a chunk to the sums.
template <int H, typename T>
[[gnu::flatten]] inline void add_values(Group& group, const Run<T>* runs, int64_t count,
                                        const PagedLayout& layout) {
  for (int64_t d = 0; d < layout.head_size; d += kRows) {
    int64_t rows[kRows];  // behind the last row that one again; its sums are not looked at
    for (int r = 0; r < kRows; ++r)
      rows[r] = std::min(d + r, layout.head_size - 1) * layout.block_size;
    Vec sums[H][kRows];
    for (int h = 0; h < H; ++h)
      for (int r = 0; r < kRows; ++r) sums[h][r] = Vec(0.0f);
    for (const Run<T>* run = runs; run < runs + count; ++run) {
      const float* const weights = group.scores + run->slot;
      int64_t t = 0;
      for (; t + kLanes <= run->count; t += kLanes) {
        Vec w[H];
        for (int h = 0; h < H; ++h) w[h] = Vec::loadu(weights + h * kChunk + t);
        for (int r = 0; r < kRows; ++r) {
          const Vec v = load_lanes(run->values + rows[r] + t);
          for (int h = 0; h < H; ++h) sums[h][r] = at::vec::fmadd(w[h], v, sums[h][r]);
        }
      }
      if (t == run->count) continue;
      // What lies behind the last token may be anything, NaN too, and is not loaded.
      for (int r = 0; r < kRows; ++r) {
        const Vec v = load_lanes(run->values + rows[r] + t, run->count - t);
        for (int h = 0; h < H; ++h)
          sums[h][r] = at::vec::fmadd(Vec::loadu(weights + h * kChunk + t), v, sums[h][r]);
      }
    }
    for (int h = 0; h < H; ++h) {
      float* const to = group.sums + h * group.sums_stride + d / kRows * kLanes;
      (Vec::loadu(to) + add_fours(sums[h])).store(to);
    }
  }
}

/// Which blocks of keys a head sees.
class Visible {
 public:
  Visible(const PagedAttention& call, int64_t kv_head, int64_t seq_len)
      : call_(call), kv_head_(kv_head) {
    if (all()) return;
    last_block_ = (seq_len - 1) / call.sparsity.block_size;
  }
  bool all() const { return call_.sparsity.vert_stride <= 1; }
  /// Tokens from `token` to the end of its sparse block.
  int64_t rest(int64_t token) const {
    return call_.sparsity.block_size - token % call_.sparsity.block_size;
  }
  /// Bit h is set where head `first + h` sees the block of `token`.
  uint32_t heads(int64_t token, int64_t first, int64_t count) const {
    if (all()) return ~0u;
    const int64_t block = token / call_.sparsity.block_size;
    if (block > last_block_ - call_.sparsity.local_blocks) return ~0u;
    uint32_t bits = 0;
    for (int64_t h = 0; h < count; ++h)
      bits |= static_cast<uint32_t>(strided(block, first + h)) << h;
    return bits;
  }

 private:
  bool strided(int64_t block, int64_t head) const {
    const BlockSparsity& s = call_.sparsity;
    using Wide = __int128;  // no product of two of the caller's numbers overflows
    const Wide offset =
        s.head_sliding_step >= 0
            ? (static_cast<Wide>(s.tp_rank) * call_.heads + head) * s.head_sliding_step + 1
            : (static_cast<Wide>(s.tp_rank) * call_.layout.heads + kv_head_) *
                      -s.head_sliding_step +
                  1;
    return (block + offset) % s.vert_stride == 0;
  }

  const PagedAttention& call_;
  int64_t kv_head_, last_block_ = 0;
};

/// Collects the runs of the next chunk from `token` on and moves it behind them.
template <typename T>
inline int64_t next_chunk(Run<T>* runs, int64_t& slots, int64_t& token, int64_t end,
                          const PagedAttention& call, const int32_t* block_table, int64_t kv_head,
                          const Visible& visible, const Group& group) {
  const PagedLayout& layout = call.layout;
  int64_t count = 0;
  for (slots = 0; token < end && slots < kChunk;) {
    const int64_t block = block_table[token / layout.block_size],
                  position = token % layout.block_size;
    const int64_t available = layout.block_size - position;
    int64_t length = std::min({available, end - token, kChunk - slots});
    if (!visible.all()) length = std::min(length, visible.rest(token));
    const uint32_t heads = visible.heads(token, group.first, group.count);
    if (heads != 0) {
      runs[count++] = {static_cast<const T*>(call.key_cache) + block * layout.key_block_stride +
                           kv_head * layout.key_head_stride + position * layout.x,
                       static_cast<const T*>(call.value_cache) + block * layout.value_block_stride +
                           kv_head * layout.value_head_stride + position,
                       token,
                       length,
                       available,
                       slots,
                       heads};
      slots += (length + kLanes - 1) / kLanes * kLanes;
    }
    token += length;
  }
  return count;
}

/// Works on the keys begin … end of a sequence for H heads.
template <int H, typename T>
inline void attend(Group& group, const PagedAttention& call, int64_t sequence, int64_t kv_head,
                   int64_t begin, int64_t end) {
  const PagedLayout& layout = call.layout;
  load_queries(group, static_cast<const T*>(call.query) + sequence * call.query_stride, layout);
  std::fill_n(group.sums, H * group.sums_stride, 0.0f);
  for (int h = 0; h < H; ++h) group.maximum[h] = kMinusInfinity, group.total[h] = 0.0f;
  const int32_t* const block_table = call.block_tables + sequence * call.block_table_stride;
  const int64_t seq_len = call.seq_lens[sequence];
  const Visible visible(call, kv_head, seq_len);
  Run<T> runs[kChunk / kLanes];
  for (int64_t token = begin; token < end;) {
    int64_t slots = 0;
    const int64_t count =
        next_chunk(runs, slots, token, end, call, block_table, kv_head, visible, group);
    for (int64_t i = 0; i < count; ++i) {
      const bool whole = runs[i].available == layout.block_size;
      const int64_t later = runs[i].token + kBlocksAhead * layout.block_size;
      const T* const keys =
          static_cast<const T*>(call.key_cache) + kv_head * layout.key_head_stride;
      score<H>(group, runs[i], layout,
               {whole && later < end
                    ? keys + block_table[later / layout.block_size] * layout.key_block_stride
                    : nullptr,
                whole ? runs[i].values : nullptr});
    }
    for (int h = 0; h < H; ++h)
      weigh(group, h, runs, count, slots, call.scale,
            call.alibi_slopes ? call.alibi_slopes[group.first + h] : 0.0f, seq_len);
    add_values<H>(group, runs, count, layout);
  }
}

/// Divides sums of values by the sum of their weights; zero where no key was seen.
template <typename T>
inline void finish(T* out, const float* sums, float total, int64_t head_size) {
  const Vec factor(total == 0.0f ? 0.0f : 1.0f / total);
  for_steps(head_size, [=](int64_t i, auto count) {
    const Pair v = load(sums + i, count);
    store(out + i, from_order<T>(Pair{v.lo * factor, v.hi * factor}), count);
  });
}

/// One part of one sequence for the heads of one key head.
template <typename T>
inline void attend_part(const PagedAttention& call, int64_t sequence, int64_t kv_head, int64_t part,
                        float* scratch) {
  const PagedLayout& layout = call.layout;
  const int64_t group_heads = call.heads / layout.heads, seq_len = call.seq_lens[sequence];
  const int64_t begin = part * call.part_blocks * layout.block_size;
  const int64_t end = std::min(seq_len, begin + call.part_blocks * layout.block_size);
  const int64_t first_part = call.first_part[sequence];
  const bool whole = first_part == call.first_part[sequence + 1];
  for (int64_t done = 0; done < group_heads; done += kHeads) {
    Group group;
    group.first = kv_head * group_heads + done;
    group.count = std::min(kHeads, group_heads - done);
    group.queries_stride =
        layout.head_size / layout.x * piece_width<T>(layout) * sizeof(Kept<T>) / sizeof(float);
    group.sums_stride = (layout.head_size + kRows - 1) / kRows * kLanes;
    group.queries = scratch;
    group.scores = group.queries + kHeads * group.queries_stride;
    group.sums = group.scores + kHeads * kChunk;
    if constexpr (kHeads >= 4) {
      if (group.count == 4) attend<4, T>(group, call, sequence, kv_head, begin, end);
      if (group.count == 3) attend<3, T>(group, call, sequence, kv_head, begin, end);
    }
    if (group.count == 2) attend<2, T>(group, call, sequence, kv_head, begin, end);
    if (group.count == 1) attend<1, T>(group, call, sequence, kv_head, begin, end);

    for (int64_t h = 0; h < group.count; ++h) {
      float* const sums = group.sums + h * group.sums_stride;
      sum_groups(sums, group.sums_stride, kLanesPerRow);
      const int64_t head = group.first + h;
      if (whole) {
        T* const out =
            static_cast<T*>(call.out) + sequence * call.out_stride + head * layout.head_size;
        finish(out, sums, group.total[h], layout.head_size);
      } else {
        float* const to =
            call.partial + ((first_part + part) * call.heads + head) * (layout.head_size + 2);
        std::memcpy(to, sums, static_cast<std::size_t>(layout.head_size) * sizeof(float));
        to[layout.head_size] = group.maximum[h];
        to[layout.head_size + 1] = group.total[h];
      }
    }
  }
}

}  // namespace

template <typename T>
void paged_attention(const PagedAttention& call, int64_t begin,
                     int64_t end,  // the parts whose first unit lies here
                     float* scratch) {
  int64_t unit = 0;
  for (int64_t sequence = 0; sequence < call.sequences && unit < end; ++sequence) {
    const int64_t blocks = call.blocks(sequence), parts = call.parts(sequence);
    for (int64_t kv_head = 0; kv_head < call.layout.heads; ++kv_head, unit += blocks) {
      for (int64_t part = 0; part < parts; ++part) {
        const int64_t first = unit + part * call.part_blocks;
        if (first >= begin && first < end) attend_part<T>(call, sequence, kv_head, part, scratch);
      }
    }
  }
}
VLLM_OPS_CPU_INSTANTIATE(paged_attention)

/// Puts the parts of sequences begin … end together.
template <typename T>
void paged_attention_combine(const PagedAttention& call, int64_t begin, int64_t end) {
  const int64_t size = call.layout.head_size;
  for (int64_t sequence = begin; sequence < end; ++sequence) {
    const int64_t first = call.first_part[sequence], parts = call.first_part[sequence + 1] - first;
    for (int64_t head = 0; parts > 0 && head < call.heads; ++head) {
      const auto part = [&](int64_t p) {
        return call.partial + ((first + p) * call.heads + head) * (size + 2);
      };
      float maximum = kMinusInfinity;
      for (int64_t p = 0; p < parts; ++p) {
        const float m = part(p)[size];
        maximum = m > maximum || m != m ? m : maximum;
      }
      float* const sums = part(0);  // takes up all others
      float total = 0.0f;
      for (int64_t p = 0; p < parts; ++p) {
        const float* const from = part(p);
        const float rescale = maximum == kMinusInfinity ? 0.0f : exp_of(from[size] - maximum);
        total += from[size + 1] * rescale;
        for (int64_t d = 0; d < size; ++d) sums[d] = (p == 0 ? 0.0f : sums[d]) + from[d] * rescale;
      }
      finish(static_cast<T*>(call.out) + sequence * call.out_stride + head * size, sums, total,
             size);
    }
  }
}
VLLM_OPS_CPU_INSTANTIATE(paged_attention_combine)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
