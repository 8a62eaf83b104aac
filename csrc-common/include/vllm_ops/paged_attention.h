// SPDX-License-Identifier: Apache-2.0
//
// What paged_attention_v1 and v2 check of their arguments on every device. The values of seq_lens
// and block_tables are not looked at here: only where the CPU has them is that possible without
// waiting for the device.
#pragma once

#include <vllm_ops/check.h>
#include <vllm_ops/paged_cache.h>
#include <vllm_ops/paged_layout.h>
#include <vllm_ops/tensor.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string_view>

namespace vllm_ops {

/// Tokens that paged_attention_v2's working memory has a partition for.
inline constexpr int64_t kPartition = 512;

/// The arguments that both ops have, by their schema's names.
struct PagedAttentionArguments {
  Tensor& out;
  const Tensor &query, &key_cache, &value_cache;
  int64_t num_kv_heads;
  double scale;
  const Tensor &block_tables, &seq_lens;
  int64_t block_size, max_seq_len;
  const std::optional<Tensor>& alibi_slopes;
  std::string_view kv_cache_dtype;
  BlockSparsity sparsity;
};

/// What check_paged_attention learned.
struct CheckedAttention {
  PagedAttentionCall call;
  MutableView out;
  View query, key_cache, value_cache, block_tables, seq_lens;
  std::optional<View> alibi_slopes;
  int64_t max_seq_len;  // as it was given

  /// Throws where `written`, memory of the op's own, is any of its inputs'.
  void disjoint(const Check& check, const MutableView& written) const {
    for (const View& input : {query, key_cache, value_cache, block_tables, seq_lens})
      check.disjoint(written, input);
    if (alibi_slopes) check.disjoint(written, *alibi_slopes);
  }
};

/// `check` is a Check, or one that knows more of where tensors may be.
template <typename AnyCheck>
CheckedAttention check_paged_attention(AnyCheck& check, const PagedAttentionArguments& arguments) {
  const MutableView o = check.output("out", arguments.out);
  const View q = check.input("query", arguments.query);
  const View kc = check.input("key_cache", arguments.key_cache);
  const View vc = check.input("value_cache", arguments.value_cache);
  const View tables = check.input("block_tables", arguments.block_tables);
  const View lens = check.input("seq_lens", arguments.seq_lens);

  check.floating(q);
  check.rank(q, 3);
  const int64_t sequences = q.size(0), heads = q.size(1), head_size = q.size(2);
  const Rows q_rows = check.rows(q, 1);
  check.same_dtype(o, q);
  check.same_shape(o, q);
  const Rows o_rows = check.rows(o, 1);

  const PagedLayout layout = check_paged_caches(check, kc, vc, arguments.kv_cache_dtype);
  check.same_dtype(kc, q);
  if (layout.head_size != head_size)
    check.fail("key_cache", text("heads of ", head_size, " elements as in 'query'"),
               text("shape ", kc.shape()));
  if (arguments.num_kv_heads != layout.heads)
    check.fail("num_kv_heads", text(layout.heads, ", the heads of 'key_cache'"),
               text(arguments.num_kv_heads));
  if (layout.heads <= 0 || heads % layout.heads != 0)
    check.fail("num_kv_heads", text("a divisor of the ", heads, " heads of 'query'"),
               text(arguments.num_kv_heads));
  if (arguments.block_size != layout.block_size)
    check.fail("block_size", text(layout.block_size, ", that of 'key_cache'"),
               text(arguments.block_size));

  check.dtype(lens, ScalarType::Int);
  check.rank(lens, 1);
  check.size(lens, 0, sequences, "the sequences of 'query'");
  check.contiguous(lens);
  check.dtype(tables, ScalarType::Int);
  check.rank(tables, 2);
  check.size(tables, 0, sequences, "the sequences of 'query'");
  check.rows(tables);

  std::optional<View> slopes;
  if (arguments.alibi_slopes) {
    slopes = check.input("alibi_slopes", *arguments.alibi_slopes);
    check.dtype(*slopes, ScalarType::Float);
    check.rank(*slopes, 1);
    check.size(*slopes, 0, heads, "the heads of 'query'");
    check.contiguous(*slopes);
  }
  const BlockSparsity& sparsity = arguments.sparsity;
  if (sparsity.vert_stride > 1) {
    if (sparsity.block_size <= 0)
      check.fail("blocksparse_block_size", "a positive number", text(sparsity.block_size));
    if (sparsity.local_blocks < 0)
      check.fail("blocksparse_local_blocks", "a number of blocks", text(sparsity.local_blocks));
  }

  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const int64_t width = tables.size(1);
  const int64_t room =
      width > 0 && layout.block_size > kMost / width ? kMost : width * layout.block_size;
  const CheckedAttention checked{
      .call = {.query = q.data,
               .key_cache = kc.data,
               .value_cache = vc.data,
               .out = o.as<void>(),
               .block_tables = tables.as<int32_t>(),
               .seq_lens = lens.as<int32_t>(),
               .alibi_slopes = slopes ? slopes->as<float>() : nullptr,
               .scale = static_cast<float>(arguments.scale),
               .sequences = sequences,
               .heads = heads,
               .query_stride = q_rows.stride,
               .out_stride = o_rows.stride,
               .table_width = width,
               .block_table_stride = tables.stride(0),
               .longest = std::clamp<int64_t>(arguments.max_seq_len, 0, room),
               .layout = layout,
               .sparsity = sparsity},
      .out = o,
      .query = q,
      .key_cache = kc,
      .value_cache = vc,
      .block_tables = tables,
      .seq_lens = lens,
      .alibi_slopes = slopes,
      .max_seq_len = arguments.max_seq_len};
  checked.disjoint(check, o);
  return checked;
}

/// paged_attention_v2's working memory.
struct AttentionScratch {
  MutableView exp_sums, max_logits, tmp_out;
  int64_t partitions;
};

/// Checks the working memory against what check_paged_attention has returned.
template <typename AnyCheck>
AttentionScratch check_attention_scratch(AnyCheck& check, const CheckedAttention& checked,
                                         Tensor& exp_sums, Tensor& max_logits, Tensor& tmp_out) {
  const MutableView parts = check.output("tmp_out", tmp_out);
  check.same_dtype(parts, checked.query);
  check.rank(parts, 4);
  const int64_t least = checked.max_seq_len / kPartition + (checked.max_seq_len % kPartition > 0);
  if (parts.size(2) < least)
    check.fail("tmp_out",
               text("at least ", least, " partitions in dimension 2, one for each ", kPartition,
                    " tokens of 'max_seq_len'"),
               text("shape ", parts.shape()));
  check.size(parts, 0, checked.query.size(0), "the sequences of 'query'");
  check.size(parts, 1, checked.query.size(1), "the heads of 'query'");
  check.size(parts, 3, checked.query.size(2), "the head size of 'query'");
  check.contiguous(parts);
  const MutableView sums = check.output("exp_sums", exp_sums),
                    maxima = check.output("max_logits", max_logits);
  for (const MutableView& v : {sums, maxima}) {
    check.dtype(v, ScalarType::Float);
    check.rank(v, 3);
    for (int64_t d = 0; d < 3; ++d)
      check.size(v, d, parts.size(d), "sequences, heads, partitions of 'tmp_out'");
    check.contiguous(v);
  }
  for (const MutableView& v : {parts, sums, maxima}) {
    checked.disjoint(check, v);
    check.disjoint(v, checked.out);
  }
  check.disjoint(sums, parts);
  check.disjoint(maxima, parts);
  check.disjoint(maxima, sums);
  return {sums, maxima, parts, parts.size(2)};
}

/// The arguments that both ops have, in their schemas' order, checked.
template <typename AnyCheck>
CheckedAttention check_attention_arguments(
    AnyCheck& check, Tensor& out, const Tensor& query, const Tensor& key_cache,
    const Tensor& value_cache, int64_t num_kv_heads, double scale, const Tensor& block_tables,
    const Tensor& seq_lens, int64_t block_size, int64_t max_seq_len,
    const std::optional<Tensor>& alibi_slopes, std::string_view kv_cache_dtype, double,
    int64_t tp_rank, int64_t blocksparse_local_blocks, int64_t blocksparse_vert_stride,
    int64_t blocksparse_block_size, int64_t blocksparse_head_sliding_step) {
  return check_paged_attention(
      check, {out,
              query,
              key_cache,
              value_cache,
              num_kv_heads,
              scale,
              block_tables,
              seq_lens,
              block_size,
              max_seq_len,
              alibi_slopes,
              kv_cache_dtype,
              {blocksparse_vert_stride, blocksparse_local_blocks, blocksparse_block_size,
               blocksparse_head_sliding_step, tp_rank}});
}

/// Both launchers of a backend, out of the one list of arguments above. AnyCheck: its checks;
/// Attend(check, checked, scratch) does the work, `scratch` being v2's working memory or null.
template <typename AnyCheck, auto Attend,
          auto CheckArguments = &check_attention_arguments<AnyCheck>>
struct AttentionLaunchers;

template <typename AnyCheck, auto Attend, typename... Rest,
          CheckedAttention (*CheckArguments)(AnyCheck&, Tensor&, Rest...)>
struct AttentionLaunchers<AnyCheck, Attend, CheckArguments> {
  static void v1(Tensor& out, Rest... rest) {
    AnyCheck check("paged_attention_v1");
    Attend(check, CheckArguments(check, out, rest...), nullptr);
  }
  static void v2(Tensor& out, Tensor& exp_sums, Tensor& max_logits, Tensor& tmp_out, Rest... rest) {
    AnyCheck check("paged_attention_v2");
    const CheckedAttention checked = CheckArguments(check, out, rest...);
    const AttentionScratch scratch =
        check_attention_scratch(check, checked, exp_sums, max_logits, tmp_out);
    Attend(check, checked, &scratch);
  }
};

}  // namespace vllm_ops
