// SPDX-License-Identifier: Apache-2.0
//
// copy_blocks: for each pair [from, to] of block_mapping, block `to` of every layer's caches
// becomes what block `from` of it is. Caches travel in the kernel's arguments, many to a launch, so
// that nothing is allocated or copied to the device first. swap_blocks: the same between two caches
// of which one may be the CPU's, by copies on the current stream. Bytes are copied, whatever they
// are. Definition: vLLM's.
//
// copy_blocks' mapping is on the device, and looking at it would mean to wait: pairs outside the
// caches are skipped.

#include <vllm_ops/block_copy.h>
#include <vllm_ops/kernel.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kUnroll = 4;
/// Caches of one launch: its arguments stay below the 4 KiB that every CUDA allows.
constexpr int kMostCaches = 128;

struct BlockCopies {
  struct Cache {
    char* data;  // [blocks, bytes], blocks `stride` bytes apart
    int64_t stride, bytes;
  } caches[kMostCaches];
  const int64_t* mapping;  // [pairs, 2]
  int64_t pairs, blocks;
};

/// blockIdx.z is the cache, y the pair, x a share of the block.
template <typename V>
__global__ void __launch_bounds__(kThreads)
    copy_blocks_kernel(const __grid_constant__ BlockCopies a) {
  const BlockCopies::Cache& cache = a.caches[blockIdx.z];
  const int64_t items = cache.bytes / static_cast<int64_t>(sizeof(V));
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kThreads * kUnroll + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads * kUnroll;
  for (int64_t pair = blockIdx.y; pair < a.pairs; pair += gridDim.y) {
    const int64_t from = a.mapping[2 * pair], to = a.mapping[2 * pair + 1];
    if (from < 0 || from >= a.blocks || to < 0 || to >= a.blocks || from == to) continue;
    const V* const source = reinterpret_cast<const V*>(cache.data + from * cache.stride);
    V* const target = reinterpret_cast<V*>(cache.data + to * cache.stride);
    for (int64_t first = begin; first < items; first += step) {
      V part[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        if (first + u * kThreads < items) part[u] = __ldcs(source + first + u * kThreads);
#pragma unroll
      for (int u = 0; u < kUnroll; ++u)
        if (first + u * kThreads < items) target[first + u * kThreads] = part[u];
    }
  }
}

/// The largest access to memory that all caches allow: 16, 2 or 1 bytes.
int64_t access_of(const std::vector<BlockCache>& caches) {
  uint64_t bits = 0;
  for (const BlockCache& cache : caches)
    bits |= reinterpret_cast<uint64_t>(cache.view.data) |
            static_cast<uint64_t>(cache.stride_bytes) | static_cast<uint64_t>(cache.block_bytes);
  return bits % 16 == 0 ? 16 : bits % 2 == 0 ? 2 : 1;
}

bool on_cpu(const Tensor& tensor) {
  int32_t type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor.get(), &type));
  return type == aoti_torch_device_type_cpu();
}

}  // namespace

void copy_blocks(std::vector<torch::stable::Tensor>& key_caches,
                 std::vector<torch::stable::Tensor>& value_caches, const Tensor& block_mapping) {
  DeviceCheck check("copy_blocks");
  const std::vector<BlockCache> caches = check_block_caches(check, key_caches, value_caches);
  const View mapping = check.input("block_mapping", block_mapping);
  check_mapping_layout(check, mapping);
  for (const BlockCache& cache : caches) check.disjoint(cache.view, mapping);
  int64_t widest = 0;
  for (const BlockCache& cache : caches) widest = std::max(widest, cache.block_bytes);
  const int64_t pairs = mapping.size(0);
  if (pairs == 0 || widest == 0 || caches[0].blocks == 0) return;

  const Launch launch(check);
  const auto run = [&]<typename V>() {
    constexpr int64_t kMostX = 2147483647, kMostY = 65535;
    constexpr int64_t kShare = kThreads * kUnroll * static_cast<int64_t>(sizeof(V));
    for (std::size_t first = 0; first < caches.size(); first += kMostCaches) {
      const std::size_t count = std::min<std::size_t>(caches.size() - first, kMostCaches);
      BlockCopies copies{{}, mapping.as<int64_t>(), pairs, caches[0].blocks};
      for (std::size_t i = 0; i < count; ++i) {
        const BlockCache& cache = caches[first + i];
        copies.caches[i] = {cache.view.as<char>(), cache.stride_bytes, cache.block_bytes};
      }
      const dim3 grid(static_cast<unsigned>(std::min(ceil_div(widest, kShare), kMostX)),
                      static_cast<unsigned>(std::min(pairs, kMostY)), static_cast<unsigned>(count));
      launch(copy_blocks_kernel<V>, grid, dim3(kThreads), copies);
    }
  };
  switch (access_of(caches)) {
    case 16:
      return run.template operator()<uint4>();
    case 2:
      return run.template operator()<uint16_t>();
    default:
      return run.template operator()<uint8_t>();
  }
}
VLLM_OPS_KERNEL(CUDA, copy_blocks, copy_blocks)

void swap_blocks(const Tensor& src, Tensor& dst, const Tensor& block_mapping) {
  DeviceCheck check("swap_blocks");
  const Check& anywhere = check;
  // One of the three is on a CUDA device, or the dispatcher would not have come here.
  if (!on_cpu(block_mapping))
    check.fail("block_mapping", "a tensor on cpu", DeviceCheck::device_name(block_mapping.get()));
  const bool from_cpu = on_cpu(src), to_cpu = on_cpu(dst);
  const View from = from_cpu ? anywhere.input("src", src) : check.input("src", src);
  const MutableView to = to_cpu ? anywhere.output("dst", dst) : check.output("dst", dst);
  const SwappedCaches caches = check_swapped_caches(check, from, to);
  const View mapping = anywhere.input("block_mapping", block_mapping);
  check_mapping_layout(check, mapping);
  check.disjoint(to, mapping);
  const BlockPairs pairs = check_pairs(check, mapping, caches.from.blocks, caches.to.blocks, false);
  const int64_t bytes = caches.to.block_bytes;
  if (pairs.count == 0 || bytes == 0) return;

  const Launch launch(check);
  const cudaMemcpyKind kind = from_cpu ? cudaMemcpyHostToDevice
                              : to_cpu ? cudaMemcpyDeviceToHost
                                       : cudaMemcpyDeviceToDevice;
  const bool dense = caches.from.stride_bytes == bytes && caches.to.stride_bytes == bytes;
  for (int64_t first = 0, end = 0; first < pairs.count; first = end) {
    // Neighbours that stay neighbours are one copy.
    for (end = first + 1; dense && end < pairs.count &&
                          pairs.from(end) == pairs.from(end - 1) + 1 &&
                          pairs.to(end) == pairs.to(end - 1) + 1;)
      ++end;
    require_success(
        check, "the blocks were not copied",
        cudaMemcpyAsync(caches.to.block(pairs.to(first)), caches.from.block(pairs.from(first)),
                        static_cast<std::size_t>((end - first) * bytes), kind, launch.stream()));
  }
}
VLLM_OPS_KERNEL(CUDA, swap_blocks, swap_blocks)

}  // namespace vllm_ops::cuda
