// SPDX-License-Identifier: Apache-2.0
//
// Launcher of decode attention over a paged cache: one query token per sequence against all keys
// before it.

#include <torch/csrc/stable/ops.h>
#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "isa.h"
#include "kernels/paged_attention.h"
#include "paged_cache.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(paged_attention, const PagedAttention& call, int64_t begin, int64_t end,
                    float* scratch)
VLLM_OPS_CPU_KERNEL(paged_attention_combine, const PagedAttention& call, int64_t begin, int64_t end)

namespace {

/// Keys that a part has at least: fewer cost more to put together than another thread saves.
constexpr int64_t kLeastPartTokens = 128;
/// Parts for each thread, so that all get about as much to do.
constexpr int64_t kPartsPerThread = 8;

struct AlignedDelete {
  static constexpr std::size_t alignment = 64;
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t{alignment}); }
};

/// Every block that a sequence's keys lie in exists.
void check_block_tables(const Check& check, const View& tables, const View& seq_lens,
                        const PagedLayout& layout) {
  for (int64_t s = 0; s < seq_lens.size(0); ++s) {
    const int64_t used = (seq_lens.as<int32_t>()[s] + layout.block_size - 1) / layout.block_size;
    const int32_t* const row = tables.as<int32_t>() + s * tables.stride(0);
    bool inside = true;  // without an early exit the loop is vectorised
    for (int64_t b = 0; b < used; ++b) inside &= (row[b] >= 0) & (row[b] < layout.blocks);
    if (inside) continue;
    int64_t b = 0;
    while (row[b] >= 0 && row[b] < layout.blocks) ++b;
    check.fail("block_tables",
               text("values from 0 to ", layout.blocks - 1, ", the blocks of 'key_cache'"),
               text(row[b], " at position [", s, ", ", b, "]"));
  }
}

}  // namespace

void paged_attention_v1(Tensor& out, const Tensor& query, const Tensor& key_cache,
                        const Tensor& value_cache, int64_t num_kv_heads, double scale,
                        const Tensor& block_tables, const Tensor& seq_lens, int64_t block_size,
                        int64_t max_seq_len, const std::optional<Tensor>& alibi_slopes,
                        std::string_view kv_cache_dtype, double, int64_t tp_rank,
                        int64_t blocksparse_local_blocks, int64_t blocksparse_vert_stride,
                        int64_t blocksparse_block_size, int64_t blocksparse_head_sliding_step) {
  constexpr Check check("paged_attention_v1");
  const MutableView o = check.output("out", out);
  const View q = check.input("query", query), kc = check.input("key_cache", key_cache);
  const View vc = check.input("value_cache", value_cache),
             tables = check.input("block_tables", block_tables);
  const View lens = check.input("seq_lens", seq_lens);

  check.floating(q);
  check.rank(q, 3);
  const int64_t sequences = q.size(0), heads = q.size(1), head_size = q.size(2);
  const Rows q_rows = check.rows(q, 1);
  check.same_dtype(o, q);
  check.same_shape(o, q);
  const Rows o_rows = check.rows(o, 1);

  const PagedLayout layout = check_paged_caches(check, kc, vc, kv_cache_dtype);
  check.same_dtype(kc, q);
  if (layout.head_size != head_size)
    check.fail("key_cache", text("heads of ", head_size, " elements as in 'query'"),
               text("shape ", kc.shape()));
  if (num_kv_heads != layout.heads)
    check.fail("num_kv_heads", text(layout.heads, ", the heads of 'key_cache'"),
               text(num_kv_heads));
  if (num_kv_heads <= 0 || heads % num_kv_heads != 0)
    check.fail("num_kv_heads", text("a divisor of the ", heads, " heads of 'query'"),
               text(num_kv_heads));
  if (block_size != layout.block_size)
    check.fail("block_size", text(layout.block_size, ", that of 'key_cache'"), text(block_size));

  check.dtype(lens, ScalarType::Int);
  check.rank(lens, 1);
  check.size(lens, 0, sequences, "the sequences of 'query'");
  check.contiguous(lens);
  check.dtype(tables, ScalarType::Int);
  check.rank(tables, 2);
  check.size(tables, 0, sequences, "the sequences of 'query'");
  check.rows(tables);
  const int64_t room =
      tables.size(1) > 0 && block_size > std::numeric_limits<int32_t>::max() / tables.size(1)
          ? std::numeric_limits<int32_t>::max()
          : tables.size(1) * block_size;
  const int64_t longest = std::min(room, std::max<int64_t>(max_seq_len, 0));
  check.values<int32_t>(lens, 0, static_cast<int32_t>(longest));
  check_block_tables(check, tables, lens, layout);

  const float* slopes = nullptr;
  if (alibi_slopes) {
    const View a = check.input("alibi_slopes", *alibi_slopes);
    check.dtype(a, ScalarType::Float);
    check.rank(a, 1);
    check.size(a, 0, heads, "the heads of 'query'");
    check.contiguous(a);
    check.disjoint(o, a);
    slopes = a.as<float>();
  }
  if (blocksparse_vert_stride > 1) {
    if (blocksparse_block_size <= 0)
      check.fail("blocksparse_block_size", "a positive number", text(blocksparse_block_size));
    if (blocksparse_local_blocks < 0)
      check.fail("blocksparse_local_blocks", "a number of blocks", text(blocksparse_local_blocks));
  }
  for (const View& input : {q, kc, vc, tables, lens}) check.disjoint(o, input);
  if (o.numel() == 0) return;

  PagedAttention call{
      .query = q.data,
      .key_cache = kc.data,
      .value_cache = vc.data,
      .out = o.as<void>(),
      .block_tables = tables.as<int32_t>(),
      .seq_lens = lens.as<int32_t>(),
      .alibi_slopes = slopes,
      .partial = nullptr,
      .first_part = nullptr,
      .scale = static_cast<float>(scale),
      .sequences = sequences,
      .heads = heads,
      .query_stride = q_rows.stride,
      .out_stride = o_rows.stride,
      .block_table_stride = tables.stride(0),
      .part_blocks = std::numeric_limits<int32_t>::max(),
      .layout = layout,
      .sparsity = {blocksparse_vert_stride, blocksparse_local_blocks, blocksparse_block_size,
                   blocksparse_head_sliding_step, tp_rank},
  };

  int64_t units = 0;
  for (int64_t s = 0; s < sequences; ++s) units += call.blocks(s) * layout.heads;
  const int64_t unit_bytes = 2 * block_size * head_size * q.itemsize;
  const int64_t threads = torch::stable::get_num_threads();
  // Sequences and key heads are independent. Where one of them is much of all the work, its keys
  // are shared out as well and the parts put together afterwards.
  if (threads > 1 && units * unit_bytes > kBytesPerThread)
    call.part_blocks =
        std::max((kLeastPartTokens + block_size - 1) / block_size,
                 (units + kPartsPerThread * threads - 1) / (kPartsPerThread * threads));
  std::vector<int64_t> first_part(static_cast<std::size_t>(sequences) + 1);
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t parts = call.parts(s);
    first_part[s + 1] = first_part[s] + (parts > 1 ? parts : 0);
  }
  const std::unique_ptr<float[]> partial(
      new float[first_part[sequences] * heads * (head_size + 2)]);
  call.first_part = first_part.data();
  call.partial = partial.get();

  dispatch_floating(q.dtype, [&]<typename T>() {
    const auto kernel = kernels::paged_attention<T>.select();
    const auto combine = kernels::paged_attention_combine<T>.select();
    parallel_for_bytes(units, unit_bytes, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<float[], AlignedDelete> scratch(
          static_cast<float*>(::operator new[](paged_attention_scratch(layout) * sizeof(float),
                                               std::align_val_t{AlignedDelete::alignment})));
      kernel(call, begin, end, scratch.get());
    });
    if (first_part[sequences] > 0) combine(call, 0, sequences);
  });
}
VLLM_OPS_KERNEL(CPU, paged_attention_v1, paged_attention_v1)

}  // namespace vllm_ops::cpu
