// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the rotary position embedding: query and key turned in place. The batched one takes
// a row of the cache that is position + offset.

#include <vllm_ops/kernel.h>
#include <vllm_ops/rotary.h>

#include <vector>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(rotary_embedding, T* states, const int64_t* positions, const T* cos_sin_cache,
                    bool is_neox, int64_t tokens, int64_t heads, int64_t head_size, int64_t rot_dim,
                    int64_t token_stride)

namespace {

/// Turns the tokens' heads by the rows of the cache that `rows` [tokens] tells.
void turn(const RotaryCall& call, const int64_t* rows) {
  dispatch_floating(call.query.dtype, [&]<typename T>() {
    const auto kernel = kernels::rotary_embedding<T>.select();
    const int64_t bytes = 2 * call.heads() * call.rot_dim * call.query.itemsize;
    parallel_for_bytes(call.tokens(), bytes, [&](int64_t begin, int64_t end) {
      const auto turn_heads = [&](const MutableView& states, const RotaryHeads& heads) {
        kernel(states.as<T>() + begin * heads.token_stride, rows + begin, call.cache.as<T>(),
               call.is_neox, end - begin, heads.heads, call.head_size, call.rot_dim,
               heads.token_stride);
      };
      turn_heads(call.query, call.query_heads);
      turn_heads(call.key, call.key_heads);
    });
  });
}

}  // namespace

void rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key, int64_t head_size,
                      const Tensor& cos_sin_cache, bool is_neox) {
  constexpr Check check("rotary_embedding");
  const RotaryCall call =
      check_rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  check.values<int64_t>(call.positions, 0, call.cache.size(0) - 1);
  turn(call, call.positions.as<int64_t>());
}
VLLM_OPS_KERNEL(CPU, rotary_embedding, rotary_embedding)

void batched_rotary_embedding(const Tensor& positions, Tensor& query, Tensor& key,
                              int64_t head_size, const Tensor& cos_sin_cache, bool is_neox,
                              int64_t rot_dim, const Tensor& cos_sin_cache_offsets) {
  constexpr Check check("batched_rotary_embedding");
  const RotaryCall call =
      check_rotary(check, positions, query, key, head_size, cos_sin_cache, is_neox);
  const View offsets = check_rotary_offsets(check, call, rot_dim, cos_sin_cache_offsets);
  const int64_t end = call.cache.size(0);
  std::vector<int64_t> rows(static_cast<std::size_t>(call.tokens()));
  for (int64_t t = 0; t < call.tokens(); ++t) {
    const int64_t position = call.positions.as<int64_t>()[t], offset = offsets.as<int64_t>()[t];
    if (__builtin_add_overflow(position, offset, &rows[t]) || rows[t] < 0 || rows[t] >= end)
      check.fail("positions", text("with 'cos_sin_cache_offsets', values from 0 to ", end - 1),
                 text(position, " + ", offset, " at position ", t));
  }
  turn(call, rows.data());
}
VLLM_OPS_KERNEL(CPU, batched_rotary_embedding, batched_rotary_embedding)

}  // namespace vllm_ops::cpu
