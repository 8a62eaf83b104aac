// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the rotary position embedding: query and key turned in place. The batched one takes
// a row of the cache that is position + offset.

#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include <vector>

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

/// The arguments that both ops have, checked but for the rows of the cache that tokens take.
struct Rotary {
  View positions, cache;
  MutableView query, key;
  Heads query_heads, key_heads;
  int64_t head_size, rot_dim;
  bool is_neox;

  Rotary(const Check& check, const Tensor& position_tensor, Tensor& query_tensor,
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

  /// Turns the tokens' heads by the rows of the cache that `rows` [tokens] tells.
  void turn(const int64_t* rows) const {
    dispatch_floating(query.dtype, [&]<typename T>() {
      const auto kernel = kernels::rotary_embedding<T>.select();
      const int64_t bytes = 2 * (query_heads.heads + key_heads.heads) * rot_dim * query.itemsize;
      parallel_for_bytes(query_heads.tokens, bytes, [&](int64_t begin, int64_t end) {
        kernel(query.as<T>() + begin * query_heads.token_stride, rows + begin, cache.as<T>(),
               is_neox, end - begin, query_heads.heads, head_size, rot_dim,
               query_heads.token_stride);
        kernel(key.as<T>() + begin * key_heads.token_stride, rows + begin, cache.as<T>(), is_neox,
               end - begin, key_heads.heads, head_size, rot_dim, key_heads.token_stride);
      });
    });
  }
};

}  // namespace

void rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key, int64_t head_size,
                      const Tensor& cos_sin_cache, bool is_neox) {
  constexpr Check check("rotary_embedding");
  const Rotary rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  check.values<int64_t>(rotary.positions, 0, rotary.cache.size(0) - 1);
  rotary.turn(rotary.positions.as<int64_t>());
}
VLLM_OPS_KERNEL(CPU, rotary_embedding, rotary_embedding)

void batched_rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key,
                              int64_t head_size, const Tensor& cos_sin_cache, bool is_neox,
                              int64_t rot_dim, const Tensor& cos_sin_cache_offsets) {
  constexpr Check check("batched_rotary_embedding");
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
  const int64_t end = rotary.cache.size(0);
  std::vector<int64_t> rows(static_cast<std::size_t>(tokens));
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t position = rotary.positions.as<int64_t>()[t], offset = offsets.as<int64_t>()[t];
    if (__builtin_add_overflow(position, offset, &rows[t]) || rows[t] < 0 || rows[t] >= end)
      check.fail("positions", text("with 'cos_sin_cache_offsets', values from 0 to ", end - 1),
                 text(position, " + ", offset, " at position ", t));
  }
  rotary.turn(rows.data());
}
VLLM_OPS_KERNEL(CPU, batched_rotary_embedding, batched_rotary_embedding)

}  // namespace vllm_ops::cpu
