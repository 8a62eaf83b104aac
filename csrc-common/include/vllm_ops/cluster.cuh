// SPDX-License-Identifier: Apache-2.0
//
// Clusters: blocks that run at once on neighbouring multiprocessors and read each other's shared
// memory (PTX ISA; compute capability 9.0). A kernel launched without clusters, and every one on
// older devices, is a cluster of one block.
#pragma once

#include <cstdint>

namespace vllm_ops::cuda {

/// Blocks of this block's cluster.
__device__ inline int cluster_size() {
  uint32_t size = 1;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(size));
#endif
  return static_cast<int>(size);
}

/// This block's place in its cluster.
__device__ inline int cluster_rank() {
  uint32_t rank = 0;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return static_cast<int>(rank);
}

/// Waits for all threads of the cluster, and sees what they have written.
__device__ inline void sync_cluster() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#endif
}

/// The address of what is at `address` in this block's shared memory, in that of another block.
__device__ inline uint32_t address_in(int rank, uint32_t address) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(address) : "r"(rank));
#endif
  return address;
}

/// Reads shared memory of the cluster.
__device__ inline float load_in_cluster(uint32_t address) {
  float x = 0.0f;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(address) : "memory");
#endif
  return x;
}
/// The same for four neighbouring numbers at a multiple of 16 bytes.
__device__ inline float4 load_four_in_cluster(uint32_t address) {
  float4 x{};
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(x.x), "=f"(x.y), "=f"(x.z), "=f"(x.w)
               : "r"(address)
               : "memory");
#endif
  return x;
}

}  // namespace vllm_ops::cuda
