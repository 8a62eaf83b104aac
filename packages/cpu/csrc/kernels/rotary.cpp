// SPDX-License-Identifier: Apache-2.0
//
// rotary_embedding: each pair (x, y) of a head becomes (x cos - y sin, y cos + x sin), in place.
// Pair i is (i, i + rot_dim / 2) in neox order, (2i, 2i + 1) in GPT-J's. A row of the cache is the
// cosines, then the sines, of one position. They are loaded once for all heads of a token. float32
// inside, one rounding at the end. Definition: vLLM's RotaryEmbedding (Su et al., RoFormer, 2021).

#include "vec.h"

namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE {
namespace {

template <typename T>
inline void rotate_neox(T* token,                    // [heads, head_size]
                        const T* next,               // the next token; null behind the last one
                        const T* cos, const T* sin,  // [half]
                        int64_t half, int64_t heads, int64_t head_size) {
  for_steps(half, [=](int64_t i, auto count) {
    const Pair c = load(cos + i, count), s = load(sin + i, count);
    T* px = token + i;
    const bool first = i == 0 && next != nullptr;
    for (int64_t head = 0; head < heads; ++head, px += head_size) {
      if (first) prefetch(next + head * head_size, head_size);
      T* const py = px + half;
      const Pair x = load(px, count), y = load(py, count);
      store(px,
            Pair{at::vec::fmsub(x.lo, c.lo, y.lo * s.lo), at::vec::fmsub(x.hi, c.hi, y.hi * s.hi)},
            count);
      store(py,
            Pair{at::vec::fmadd(y.lo, c.lo, x.lo * s.lo), at::vec::fmadd(y.hi, c.hi, x.hi * s.hi)},
            count);
    }
  });
}

template <typename T>
inline void rotate_gptj(T* token, const T* next, const T* cos, const T* sin, int64_t half,
                        int64_t heads, int64_t head_size) {
  const auto step = [=](int64_t i, auto count) {  // count elements are count / 2 pairs
    const Vec c = load_lanes(cos + i / 2, count / 2), s = load_lanes(sin + i / 2, count / 2);
    T* p = token + i;
    const bool first = i == 0 && next != nullptr;
    for (int64_t head = 0; head < heads; ++head, p += head_size) {
      if (first) prefetch(next + head * head_size, head_size);
      const auto [x, y] = even_and_odd<T>(load(p, count));
      const Pair turned{at::vec::fmsub(x, c, y * s), at::vec::fmadd(y, c, x * s)};
      store(p, from_even_and_odd<T>(turned), count);
    }
  };
  for_steps(2 * half, step);
}

}  // namespace

template <typename T>
[[gnu::flatten]] void rotary_embedding(
    T* states,                 // [tokens, heads, head_size], tokens token_stride apart
    const int64_t* positions,  // [tokens], rows of the cache
    const T* cos_sin_cache,    // [positions, rot_dim]
    bool is_neox, int64_t tokens, int64_t heads, int64_t head_size, int64_t rot_dim,
    int64_t token_stride) {
  const int64_t half = rot_dim / 2;
  for (int64_t token = 0; token < tokens; ++token, states += token_stride) {
    const T* const cos = cos_sin_cache + positions[token] * rot_dim;
    const T* const next = token + 1 < tokens ? states + token_stride : nullptr;
    if (is_neox)
      rotate_neox(states, next, cos, cos + half, half, heads, head_size);
    else
      rotate_gptj(states, next, cos, cos + half, half, heads, head_size);
  }
}
VLLM_OPS_CPU_INSTANTIATE(rotary_embedding)

}  // namespace vllm_ops::cpu::kernels::VLLM_OPS_ISA_NAMESPACE
