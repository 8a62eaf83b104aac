// SPDX-License-Identifier: Apache-2.0
//
// Launcher of the rotary position embedding: query and key turned in place.

#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(rotary_embedding, T* states, const int64_t* positions, const T* cos_sin_cache,
                    bool is_neox, int64_t tokens, int64_t heads, int64_t head_size, int64_t rot_dim,
                    int64_t token_stride)

namespace {

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

}  // namespace

void rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key, int64_t head_size,
                      const Tensor& cos_sin_cache, bool is_neox) {
  constexpr Check check("rotary_embedding");
  const View pos = check.input("positions", positions),
             cache = check.input("cos_sin_cache", cos_sin_cache);
  const MutableView q = check.output("query", query), k = check.output("key", key);
  if (head_size <= 0) check.fail("head_size", "a positive number", text(head_size));
  check.dtype(pos, ScalarType::Long);
  check.rank(pos, 1, 2);
  check.contiguous(pos);
  check.floating(q);
  check.same_dtype(k, q);
  const Heads q_heads = check_heads(check, q, pos, head_size),
              k_heads = check_heads(check, k, pos, head_size);
  check.same_dtype(cache, q);
  check.rank(cache, 2);
  check.contiguous(cache);
  const int64_t rot_dim = cache.size(1);
  if (rot_dim % 2 != 0 || rot_dim > head_size)
    check.fail("cos_sin_cache", text("an even width of at most head_size, ", head_size),
               text("shape ", cache.shape()));
  check.disjoint(k, q);
  for (const MutableView& states : {q, k}) {
    check.disjoint(states, cache);
    check.disjoint(states, pos);
  }
  check.values<int64_t>(pos, 0, cache.size(0) - 1);

  dispatch_floating(q.dtype, [&]<typename T>() {
    const auto kernel = kernels::rotary_embedding<T>.select();
    const int64_t bytes = 2 * (q_heads.heads + k_heads.heads) * rot_dim * q.itemsize;
    parallel_for_bytes(q_heads.tokens, bytes, [&](int64_t begin, int64_t end) {
      const int64_t* const rows = pos.as<int64_t>() + begin;
      kernel(q.as<T>() + begin * q_heads.token_stride, rows, cache.as<T>(), is_neox, end - begin,
             q_heads.heads, head_size, rot_dim, q_heads.token_stride);
      kernel(k.as<T>() + begin * k_heads.token_stride, rows, cache.as<T>(), is_neox, end - begin,
             k_heads.heads, head_size, rot_dim, k_heads.token_stride);
    });
  });
}
VLLM_OPS_KERNEL(CPU, rotary_embedding, rotary_embedding)

}  // namespace vllm_ops::cpu
