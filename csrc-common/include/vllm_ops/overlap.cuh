// SPDX-License-Identifier: Apache-2.0
//
// Kernels that start while the kernel before them on the stream ends (programmatic dependent
// launch, compute capability 9.0; Launch::overlapping), and what they may do before they wait for
// it. On older devices nothing here waits, and nothing has to.
#pragma once

#include <vllm_ops/device.cuh>

#include <cstdint>

namespace vllm_ops::cuda {

/// How many blocks of so many threads fetch what they read into the L2 cache while the kernel
/// before theirs ends: those that a device runs at once at most. Measured on an H200, calls of 16
/// tokens take a tenth to a fifth less, but with results that are not read soon (`once`,
/// kStoredOnceBytes), whose writing is under way then, calls take longer: 0.
inline unsigned count_early_blocks(const Check& check, int32_t device, int threads, bool once) {
  constexpr int kThreads = 2048;  // of a multiprocessor
  return once ? 0 : static_cast<unsigned>(multiprocessors(check, device) * (kThreads / threads));
}

/// In a kernel launched by Launch::overlapping: waits until the kernel before it on the stream has
/// ended and what it wrote can be read. Before that it may fetch into a cache, and read what it
/// reads again after it (load_current).
__device__ inline void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel on the stream start, if Launch::overlapping launches it, as soon as a
/// thread of every block has called this, or the block has ended.
__device__ inline void let_next_kernel_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// What the L2 cache fetches at once, in bytes.
inline constexpr int kLineBytes = 128;

/// Fetches the line at an address into the L2 cache, which sees what others write: it may be done
/// before wait_for_previous_kernel.
__device__ inline void fetch_line(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

/// Reads a number that another kernel may be writing: each time that this is called, and past the
/// L1 cache, which would keep the old one.
__device__ inline int32_t load_current(const int32_t* from) {
  int32_t number;
  asm volatile("ld.global.cg.s32 %0, [%1];" : "=r"(number) : "l"(from));
  return number;
}

/// Fetches the line at an address if it is the line's first: of threads that read side by side, one
/// in eight.
__device__ inline void fetch_line_at_begin(const void* address) {
  if (reinterpret_cast<uintptr_t>(address) % kLineBytes == 0) fetch_line(address);
}

/// Whether this is one of the first `early_blocks` of the grid.
__device__ inline bool is_early_block(unsigned early_blocks) {
  return blockIdx.y * static_cast<uint64_t>(gridDim.x) + blockIdx.x < early_blocks;
}

}  // namespace vllm_ops::cuda
