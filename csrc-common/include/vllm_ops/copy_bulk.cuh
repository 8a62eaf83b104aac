// SPDX-License-Identifier: Apache-2.0
//
// Bulk copies from global to shared memory, and what tells of their end (cp.async.bulk and
// mbarrier, PTX ISA; compute capability 9.0). One thread starts a copy of many bytes; addresses and
// sizes are multiples of 16. On older devices all of this does nothing: kernels that use it are
// launched where Launch::has_hopper_code says so.
#pragma once

#include <vllm_ops/copy_async.cuh>

#include <cstdint>

namespace vllm_ops::cuda {

/// Makes a barrier in shared memory that one thread's arrival and its copies' bytes complete.
__device__ inline void init_barrier(uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
#endif
}

/// Lets copies know of the barriers that this thread has made.
__device__ inline void publish_barriers() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

/// Arrives at a barrier, whose phase ends when `bytes` have been copied.
__device__ inline void arrive_expecting(uint32_t barrier, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
#endif
}

/// Waits for the end of the barrier's phase of this parity, and sees what was copied in it.
__device__ inline void wait_for_barrier(uint32_t barrier, uint32_t parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      "  .reg .pred done;\n"
      "waiting:\n"
      "  mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "  @!done bra waiting;\n"
      "}" ::"r"(barrier),
      "r"(parity)
      : "memory");
#endif
}

/// Starts a copy to shared memory, whose bytes the barrier counts, of what nobody reads again soon:
/// the L2 cache gives its place away first.
__device__ inline void copy_bulk_once(uint32_t to, const void* from, uint32_t bytes,
                                      uint32_t barrier) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      "  .reg .b64 policy;\n"
      "  createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], "
      "[%1], %2, [%3], policy;\n"
      "}" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
#endif
}

/// Fetches bytes into the L2 cache.
__device__ inline void fetch_bulk(const void* from, uint32_t bytes) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}

}  // namespace vllm_ops::cuda
