// SPDX-License-Identifier: Apache-2.0
//
// Copies from global to shared memory that go on beside arithmetic (cp.async). Loads into registers
// cannot be kept ahead of their use: the assembler moves them down to it.
#pragma once

#include <cstdint>

namespace vllm_ops::cuda {

/// The address of shared memory, as instructions take it.
__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

/// Copies 16 bytes to shared memory, or zeros where nothing is there. No hint that their neighbours
/// in the L2 cache are wanted too: with one of 256 bytes, attention read a sixth more slowly.
__device__ inline void copy_async(uint32_t to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}

/// Copies 16 bytes of a line to shared memory, all of which is copied so and nobody reads again
/// soon: the L2 cache fetches it whole, and gives its place away first. Measured on an H200,
/// reshape_and_cache takes 1 % less than with an L2 cache that fetches what is asked for.
__device__ inline void copy_async_once(uint32_t to, const void* from) {
  asm volatile(
      "{\n"
      "  .reg .b64 policy;\n"
      "  createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
      "  cp.async.cg.shared.global.L2::cache_hint.L2::128B [%0], [%1], 16, policy;\n"
      "}" ::"r"(to),
      "l"(from)
      : "memory");
}

/// Makes this thread's copies since the last call a group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until no more than kPending of this thread's latest groups are under way. What the others
/// are told of it takes a barrier of theirs.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace vllm_ops::cuda
