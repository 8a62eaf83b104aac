// SPDX-License-Identifier: Apache-2.0
//
// Launcher of decode attention over a paged cache: one query token per sequence against all keys
// before it.

#include <torch/csrc/stable/ops.h>
#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/paged_attention.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "isa.h"
#include "kernels/paged_attention.h"
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

/// What both ops do once their arguments have been checked, but for the values of seq_lens and
/// block_tables. The work is shared out by threads and not by partitions: v2's working memory is
/// not needed.
void attend(const Check& check, const CheckedAttention& checked, const AttentionScratch*) {
  PagedAttention call{checked.call};
  const PagedLayout& layout = call.layout;
  check.values<int32_t>(checked.seq_lens, 0, static_cast<int32_t>(call.longest));
  check_block_tables(check, checked.block_tables, checked.seq_lens, layout);
  if (checked.out.numel() == 0) return;

  int64_t units = 0;
  for (int64_t s = 0; s < call.sequences; ++s) units += call.blocks(s) * layout.heads;
  const int64_t unit_bytes = 2 * layout.block_size * layout.head_size * checked.query.itemsize;
  const int64_t threads = torch::stable::get_num_threads();
  // Sequences and key heads are independent. Where one of them is much of all the work, its keys
  // are shared out as well and the parts put together afterwards.
  if (threads > 1 && units * unit_bytes > kBytesPerThread)
    call.part_blocks =
        std::max((kLeastPartTokens + layout.block_size - 1) / layout.block_size,
                 (units + kPartsPerThread * threads - 1) / (kPartsPerThread * threads));
  std::vector<int64_t> first_part(static_cast<std::size_t>(call.sequences) + 1);
  for (int64_t s = 0; s < call.sequences; ++s) {
    const int64_t parts = call.parts(s);
    first_part[s + 1] = first_part[s] + (parts > 1 ? parts : 0);
  }
  const std::unique_ptr<float[]> partial(
      new float[first_part[call.sequences] * call.heads * (layout.head_size + 2)]);
  call.first_part = first_part.data();
  call.partial = partial.get();

  dispatch_floating(checked.query.dtype, [&]<typename T>() {
    const auto kernel = kernels::paged_attention<T>.select();
    const auto combine = kernels::paged_attention_combine<T>.select();
    parallel_for_bytes(units, unit_bytes, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<float[], AlignedDelete> scratch(
          static_cast<float*>(::operator new[](paged_attention_scratch(layout) * sizeof(float),
                                               std::align_val_t{AlignedDelete::alignment})));
      kernel(call, begin, end, scratch.get());
    });
    if (first_part[call.sequences] > 0) combine(call, 0, call.sequences);
  });
}

using Launchers = AttentionLaunchers<const Check, attend>;

}  // namespace

VLLM_OPS_KERNEL(CPU, paged_attention_v1, Launchers::v1)
VLLM_OPS_KERNEL(CPU, paged_attention_v2, Launchers::v2)

}  // namespace vllm_ops::cpu
