// SPDX-License-Identifier: Apache-2.0
//
// What the rotary embeddings check on every device. `AnyCheck` is Check, or one that looks at
// devices too.
#pragma once

#include <vllm_ops/check.h>

#include <cstdint>

namespace vllm_ops {

/// The heads of all tokens in one of the two tensors that are turned.
struct RotaryHeads {
  int64_t tokens, heads, token_stride;
};

/// A call of rotary_embedding, checked but for the values of the positions.
struct RotaryCall {
  View positions, cache;  // [tokens] or [batch, sequence]; [rows, rot_dim]
  MutableView query, key;
  RotaryHeads query_heads, key_heads;
  int64_t head_size, rot_dim;
  bool is_neox;

  int64_t tokens() const { return query_heads.tokens; }
  int64_t heads() const { return query_heads.heads + key_heads.heads; }
};

namespace detail {

/// Reads [...positions, heads * head_size] or [...positions, heads, head_size].
inline RotaryHeads check_rotary_heads(const Check& check, const MutableView& states,
                                      const View& positions, int64_t head_size) {
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

}  // namespace detail

template <typename AnyCheck>
RotaryCall check_rotary(AnyCheck& check, const Tensor& positions, Tensor& query, Tensor& key,
                        int64_t head_size, const Tensor& cos_sin_cache, bool is_neox) {
  RotaryCall call{check.input("positions", positions),
                  check.input("cos_sin_cache", cos_sin_cache),
                  check.output("query", query),
                  check.output("key", key),
                  {},
                  {},
                  head_size,
                  0,
                  is_neox};
  const View &pos = call.positions, &cache = call.cache;
  if (head_size <= 0) check.fail("head_size", "a positive number", text(head_size));
  check.dtype(pos, ScalarType::Long);
  check.rank(pos, 1, 2);
  check.contiguous(pos);
  check.floating(call.query);
  check.same_dtype(call.key, call.query);
  call.query_heads = detail::check_rotary_heads(check, call.query, pos, head_size);
  call.key_heads = detail::check_rotary_heads(check, call.key, pos, head_size);
  check.same_dtype(cache, call.query);
  check.rank(cache, 2);
  check.contiguous(cache);
  call.rot_dim = cache.size(1);
  if (call.rot_dim % 2 != 0 || call.rot_dim > head_size)
    check.fail("cos_sin_cache", text("an even width of at most head_size, ", head_size),
               text("shape ", cache.shape()));
  check.disjoint(call.key, call.query);
  for (const MutableView& states : {call.query, call.key}) {
    check.disjoint(states, cache);
    check.disjoint(states, pos);
  }
  return call;
}

/// What batched_rotary_embedding takes beyond that. Returns the offsets, one for each token.
template <typename AnyCheck>
View check_rotary_offsets(AnyCheck& check, const RotaryCall& call, int64_t rot_dim,
                          const Tensor& cos_sin_cache_offsets) {
  if (rot_dim != call.rot_dim)
    check.fail("rot_dim", text("the width of 'cos_sin_cache', ", call.rot_dim), text(rot_dim));
  const View offsets = check.input("cos_sin_cache_offsets", cos_sin_cache_offsets);
  check.dtype(offsets, ScalarType::Long);
  check.rank(offsets, 1, 2);
  check.contiguous(offsets);
  if (offsets.numel() != call.tokens())
    check.fail("cos_sin_cache_offsets", text("one number for each of ", call.tokens(), " tokens"),
               text("shape ", offsets.shape()));
  for (const MutableView& states : {call.query, call.key}) check.disjoint(states, offsets);
  return offsets;
}

}  // namespace vllm_ops
