// SPDX-License-Identifier: Apache-2.0
//
// Clusters: blocks that run at the same time and can write to each other's shared memory (PTX ISA,
// compute capability 9.0; Launch::overlapping_clusters). A block makes a barrier (copy_bulk.cuh),
// arrives at the cluster, and waits for the cluster before it sends or is sent anything; what is
// sent counts at the barrier of who gets it. Barriers of the cluster that order memory would take
// longer: they wait for all that is under way. On older devices nothing here does anything, and no
// kernel is launched in clusters.
#pragma once

#include <vllm_ops/copy_bulk.cuh>

#include <cstdint>

namespace vllm_ops::cuda {

/// Says that this block runs, and has published its barriers. All threads of a cluster do.
__device__ inline void arrive_at_cluster() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
#endif
}

/// Waits until all threads of the cluster have arrived.
__device__ inline void wait_for_cluster() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
#endif
}

/// The address that a place in this block's shared memory has in the first block's of the cluster.
__device__ inline uint32_t in_first_block(uint32_t address) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm("mapa.shared::cluster.u32 %0, %1, 0;" : "=r"(address) : "r"(address));
#endif
  return address;
}

/// Writes to another block's shared memory; its barrier there counts the bytes. Four numbers go to
/// a multiple of 16 bytes.
__device__ inline void send(uint32_t to, float number, uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(to),
      "f"(number), "r"(barrier)
      : "memory");
#endif
}
__device__ inline void send(uint32_t to, const float4& numbers, uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, "
      "[%5];" ::"r"(to),
      "f"(numbers.x), "f"(numbers.y), "f"(numbers.z), "f"(numbers.w), "r"(barrier)
      : "memory");
#endif
}

}  // namespace vllm_ops::cuda
