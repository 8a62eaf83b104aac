// SPDX-License-Identifier: Apache-2.0
//
// paged_attention_v1 and v2: out = softmax(scale q k^T + bias) v for one query token per sequence
// over a paged cache (Kwon et al., 2023), with ALiBi (Press et al., 2021) and block sparsity. Both
// ops run the same kernels: attend_tensor_cores for 16-bit elements in heads of up to 256 and
// aligned blocks of multiples of 8 tokens, attend_any for everything else. Few sequences are cut
// into parts, so that every multiprocessor has work. Their blocks put those together where they can
// be a cluster; elsewhere combine_parts does, out of float32 results in v2's working memory if that
// has room, else in memory of torch's allocator. float32 inside, rounded at the end.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/paged_attention.h>
#include <vllm_ops/launch.cuh>

#include <algorithm>
#include <limits>
#include <optional>

#include "attention/any.cuh"
#include "attention/combine.cuh"
#include "attention/tensor_cores.cuh"

namespace vllm_ops::cuda {
namespace {

/// Tokens that a part has at least: those that four warps of a block read first, at once.
constexpr int64_t kLeastPartTokens = 64;
/// Keys and values that a block reads within a few microseconds.
constexpr int64_t kLittleBytes = 128 << 10;
/// Blocks of attend_any that a multiprocessor is given at once.
constexpr int kAnyBlocks = 8;
/// Query heads that attend_any works on together.
constexpr int kAnyHeads = 4;
/// Tokens of a sequence at most: indices of those that kernels look at behind it have 31 bits.
constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max() - 4096;

HeadSparsity reduced(const BlockSparsity& sparsity, int64_t heads, int64_t kv_heads) {
  if (sparsity.vert_stride <= 1) return {};
  using Wide = __int128;  // no product of two of the caller's numbers overflows
  const bool by_kv_head = sparsity.head_sliding_step < 0;
  const int64_t stride = sparsity.vert_stride;
  const auto modulo = [stride](Wide n) {
    return static_cast<int64_t>((n % stride + stride) % stride);
  };
  const int64_t step = modulo(by_kv_head ? -static_cast<Wide>(sparsity.head_sliding_step)
                                         : static_cast<Wide>(sparsity.head_sliding_step));
  const int64_t skipped =
      modulo(static_cast<Wide>(sparsity.tp_rank) * (by_kv_head ? kv_heads : heads));
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  return {.stride = stride,
          .first = modulo(static_cast<Wide>(skipped) * step + 1),
          .step = step,
          .local_blocks = std::min(sparsity.local_blocks, kMost),
          .block_size = static_cast<uint32_t>(std::min(sparsity.block_size, kMost)),
          .by_kv_head = by_kv_head};
}

/// Memory for the results of parts: of torch's allocator, given back when the launcher returns.
/// What is launched later on the same stream may have it then.
class PartMemory {
 public:
  PartMemory(const DeviceCheck& check, int64_t floats) : tensor_(make(check, floats)) {}
  float* data() const {
    void* data = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_data_ptr(tensor_.get(), &data));
    return static_cast<float*>(data);
  }

 private:
  static AtenTensorHandle make(const DeviceCheck& check, int64_t floats) {
    const int64_t stride = 1;
    AtenTensorHandle tensor = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(1, &floats, &stride, aoti_torch_dtype_float32(),
                                                    aoti_torch_device_type_cuda(), check.device(),
                                                    &tensor));
    return tensor;
  }
  Tensor tensor_;
};

/// Room for vectors of float32 in v2's tmp_out, whose elements may have 16 bits and begin at any of
/// them.
struct Room {
  explicit Room(const MutableView& view) {
    const auto from = reinterpret_cast<uintptr_t>(view.data);
    const uintptr_t aligned = ceil_div(from, kVectorBytes) * kVectorBytes;
    begin = reinterpret_cast<float*>(aligned);
    floats = static_cast<int64_t>(from + view.span() - aligned) / int64_t{sizeof(float)};
  }
  float* begin;
  int64_t floats;
};

/// Whether the tensor cores' kernel can read the caches: whole pieces, and runs of 8 tokens, each
/// at a multiple of 16 bytes.
bool suits_tensor_cores(const CheckedAttention& checked) {
  const PagedLayout& layout = checked.call.layout;
  const auto aligned = [](int64_t stride) { return stride % 8 == 0; };
  return checked.query.itemsize == 2 && layout.head_size <= 256 && layout.block_size % 8 == 0 &&
         is_aligned(checked.call.key_cache) && is_aligned(checked.call.value_cache) &&
         aligned(layout.key_block_stride) && aligned(layout.key_head_stride) &&
         aligned(layout.value_block_stride) && aligned(layout.value_head_stride);
}

/// Whether attend_any can read the caches by 16 bytes.
bool suits_vectors(const CheckedAttention& checked) {
  const PagedLayout& layout = checked.call.layout;
  const auto aligned = [&layout](int64_t stride) { return stride % layout.x == 0; };
  return layout.block_size % layout.x == 0 && is_aligned(checked.call.key_cache) &&
         is_aligned(checked.call.value_cache) && aligned(layout.key_block_stride) &&
         aligned(layout.key_head_stride) && aligned(layout.value_block_stride) &&
         aligned(layout.value_head_stride);
}

/// Whether kPutElements of query and out can be accessed at once. Heads are whole multiples of
/// them.
bool suits_whole_access(const CheckedAttention& checked) {
  const auto fits = [&](const void* data, int64_t stride) {
    const auto bytes = static_cast<uintptr_t>(checked.query.itemsize) * kPutElements;
    return reinterpret_cast<uintptr_t>(data) % bytes == 0 && stride % kPutElements == 0;
  };
  return fits(checked.call.query, checked.call.query_stride) &&
         fits(checked.call.out, checked.call.out_stride);
}

/// Whether a chunk of the tensor cores' kernel is a block, of which bulk copies take all at once.
bool suits_bulk_copies(const Launch& launch, const PagedLayout& layout) {
  return layout.block_size == kChunk &&
         launch.has_hopper_code<attend_tensor_cores<__half, 128, HalfQueue, false>>();
}

/// Calls `body.template operator()<kSize>()` with the size of heads, of those that the tensor
/// cores' kernel is made for, that has room for `size` elements.
template <typename Body>
decltype(auto) dispatch_size(int64_t size, Body&& body) {
  if (size <= 64) return std::forward<Body>(body).template operator()<64>();
  if (size <= 128) return std::forward<Body>(body).template operator()<128>();
  return std::forward<Body>(body).template operator()<256>();
}

/// How the work on a call is shared out.
struct Shares {
  int64_t at_once;  // blocks that surely run at the same time
  int64_t parts;    // of each sequence: as many as all run at once, if there is that much to read
  bool whole = false;  // each block has a multiprocessor to itself (WholeQueue)

  /// `units`: sequences times groups of heads that a block works on; parts have at least `least`
  /// tokens.
  static Shares of(int64_t units, int64_t at_once, int64_t longest, int64_t least) {
    const int64_t most = std::max<int64_t>(1, longest / least);
    return {at_once, std::clamp<int64_t>(at_once / units, 1, most)};
  }
  /// The same by blocks that have a multiprocessor each, with twice as many warps, if that leaves
  /// no more multiprocessors without work: there are fewer parts to be put together then.
  Shares in_wholes(int64_t units, int64_t multiprocessors, int64_t longest) const {
    Shares wholes = of(units, multiprocessors, longest, 2 * kLeastPartTokens);
    wholes.whole = true;
    const bool all_work = units <= multiprocessors && 2 * wholes.parts >= parts;
    return all_work ? wholes : *this;
  }
};

template <typename T, int kSize, template <typename, int> typename Queue, bool kSparse>
void launch_queue(const Launch& launch, const AttentionKernel& call, unsigned blocks) {
  using Q = Queue<T, kSize>;
  constexpr auto kKernel = attend_tensor_cores<T, kSize, Queue, kSparse>;
  launch.allow_shared<kKernel>(Q::kShared);
  launch.overlapping_clusters<kKernel>(call.clusters ? static_cast<unsigned>(call.parts) : 1,
                                       blocks, 32 * Q::kWarps, Q::kShared, call);
}

/// The most blocks, up to `parts`, of which clusters for all of `units` run at once.
template <int kSize>
int64_t most_cluster_blocks(const Launch& launch, int64_t parts, int64_t units) {
  using Q = WholeQueue<__half, kSize>;  // of __nv_bfloat16 there are as many
  constexpr auto kKernel = attend_tensor_cores<__half, kSize, WholeQueue, false>;
  launch.allow_shared<kKernel>(Q::kShared);
  auto blocks = static_cast<unsigned>(std::min<int64_t>(parts, Q::kClusterBlocks));
  while (blocks > 1 && launch.most_clusters<kKernel>(blocks, 32 * Q::kWarps, Q::kShared) < units)
    --blocks;
  return blocks;
}

/// Takes clusters of blocks where they fit, or fewer of them fit that have little to read: else the
/// kernel that puts parts together takes as long as reading does.
bool take_clusters(const Launch& launch, Shares& shares, int64_t units,
                   const CheckedAttention& checked) {
  if (!shares.whole || shares.parts == 1) return false;
  const int64_t size = checked.call.layout.head_size, parts = shares.parts;
  const int64_t blocks = dispatch_size(
      size, [&]<int kSize>() { return most_cluster_blocks<kSize>(launch, parts, units); });
  const int64_t tokens = ceil_div(checked.call.longest, blocks);
  if (blocks < parts && tokens > kLittleBytes / (2 * size * checked.query.itemsize)) return false;
  shares.parts = blocks;
  return blocks > 1;
}

template <typename T, int kSize>
void launch_tensor_cores(const Launch& launch, const AttentionKernel& call, unsigned blocks,
                         bool bulk, bool whole) {
  const bool sparse = call.sparse.stride != 0;
  if (!bulk && sparse)
    launch_queue<T, kSize, CopyQueue, true>(launch, call, blocks);
  else if (!bulk)
    launch_queue<T, kSize, CopyQueue, false>(launch, call, blocks);
  else if (sparse)
    launch_queue<T, kSize, HalfQueue, true>(launch, call, blocks);
  else if (whole)
    launch_queue<T, kSize, WholeQueue, false>(launch, call, blocks);
  else
    launch_queue<T, kSize, HalfQueue, false>(launch, call, blocks);
}

template <typename T, int kHeads>
void launch_any(const Launch& launch, const AttentionKernel& call, unsigned blocks, bool vectors) {
  const std::size_t shared = any_shared_floats(kHeads, call.layout.head_size) * sizeof(float);
  if (vectors)
    launch.overlapping<attend_any<T, kHeads, kVectorSize<T>>>(blocks, kTile, shared, call);
  else
    launch.overlapping<attend_any<T, kHeads, 1>>(blocks, kTile, shared, call);
}

/// What both ops do once their arguments have been checked. `scratch` is v2's.
void attend(const DeviceCheck& check, const CheckedAttention& checked,
            const AttentionScratch* scratch) {
  const PagedLayout& layout = checked.call.layout;
  const int64_t heads = checked.call.heads, size = layout.head_size;
  if (size > any_largest_head())
    check.fail("query", text("heads of at most ", any_largest_head(), " elements"),
               text("shape ", checked.query.shape()));
  if (checked.out.numel() == 0) return;

  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  AttentionKernel call{};
  static_cast<PagedAttentionCall&>(call) = checked.call;
  call.longest = std::min(call.longest, kMostTokens);
  call.sparse = reduced(call.sparsity, heads, layout.heads);
  call.block_size = static_cast<uint32_t>(std::clamp<int64_t>(layout.block_size, 1, kMost));
  call.group_heads = static_cast<int>(heads / layout.heads);
  const bool tensor_cores = suits_tensor_cores(checked);
  // Heads so large that queries and sums of several do not fit into shared memory are worked on one
  // by one.
  const bool single = call.group_heads == 1 || size > any_largest_head() / (kAnyHeads + 1);
  const int64_t together = tensor_cores ? kHeadsOfBlock : single ? 1 : kAnyHeads;
  call.head_groups = static_cast<int>(ceil_div(call.group_heads, together));

  const Launch launch(check);
  const int64_t units = call.sequences * layout.heads * call.head_groups;
  const int64_t processors = multiprocessors(check, check.device());
  const bool bulk = tensor_cores && suits_bulk_copies(launch, layout);
  const int each = bulk           ? HalfQueue<__half, 128>::kBlocksPerMultiprocessor
                   : tensor_cores ? CopyQueue<__half, 128>::kBlocksPerMultiprocessor
                                  : kAnyBlocks;
  Shares shares = Shares::of(units, processors * each, call.longest, kLeastPartTokens);
  if (bulk && call.sparse.stride == 0 &&
      largest_shared(check, check.device()) >= WholeQueue<__half, 128>::kShared)
    shares = shares.in_wholes(units, processors, call.longest);
  call.clusters = take_clusters(launch, shares, units, checked);
  const int64_t parts = shares.parts, rows = call.sequences * heads;
  call.parts = static_cast<int>(parts);
  call.aligned = suits_whole_access(checked);
  call.at_once = static_cast<unsigned>(shares.at_once);
  const bool combine = parts > 1 && !call.clusters;
  std::optional<PartMemory> memory;
  std::optional<Room> room;
  if (scratch != nullptr && scratch->partitions >= parts) room.emplace(scratch->tmp_out);
  if (combine && room && room->floats >= rows * parts * size) {
    call.sums = room->begin;
    call.maxima = scratch->max_logits.as<float>();
    call.totals = scratch->exp_sums.as<float>();
  } else if (combine) {
    memory.emplace(check, rows * parts * (size + 2));
    call.sums = memory->data();
    call.maxima = call.sums + rows * parts * size;
    call.totals = call.maxima + rows * parts;
  }

  const int64_t blocks = units * parts;
  if (blocks > kMost)
    check.fail("query", text("at most ", kMost, " sequences times heads"),
               text("shape ", checked.query.shape()));
  const auto grid = static_cast<unsigned>(blocks);
  dispatch_floating(checked.query.dtype, [&]<typename T>() {
    if constexpr (sizeof(T) == 2) {
      if (tensor_cores)
        dispatch_size(size, [&]<int kSize>() {
          launch_tensor_cores<T, kSize>(launch, call, grid, bulk, shares.whole);
        });
    }
    if (!tensor_cores && single)
      launch_any<T, 1>(launch, call, grid, suits_vectors(checked));
    else if (!tensor_cores)
      launch_any<T, kAnyHeads>(launch, call, grid, suits_vectors(checked));
    if (combine) {
      // Beside attend_any, which reads by the L1 cache, it starts a little later for that.
      launch.share_like_allowed<combine_parts<T>>();
      const unsigned warps = combine_warps(parts);
      launch.overlapping<combine_parts<T>>(static_cast<unsigned>(rows), dim3(32, warps),
                                           combine_shared(warps), call);
    }
  });
}

using Launchers = AttentionLaunchers<DeviceCheck, attend>;

}  // namespace

VLLM_OPS_KERNEL(CUDA, paged_attention_v1, Launchers::v1)
VLLM_OPS_KERNEL(CUDA, paged_attention_v2, Launchers::v2)

}  // namespace vllm_ops::cuda
