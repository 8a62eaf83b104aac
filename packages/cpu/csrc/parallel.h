// SPDX-License-Identifier: Apache-2.0
//
// How launchers share work among libtorch's threads.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <vllm_ops/check.h>

#include <algorithm>
#include <cstdint>

namespace vllm_ops::cpu {

/// What a thread must have to do before waking it pays, in bytes read and written. Waking one costs
/// about as much as copying this much out of the cache.
inline constexpr int64_t kBytesPerThread = 128 * 1024;

/// Whether a result is too large to be still in the caches when it is read again. Writing past them
/// then saves reading the memory first, as memcpy does it, too.
inline bool exceeds_caches(const View& result) {
  constexpr int64_t kShare = 8 * 1024 * 1024;  // of a last-level cache that others use as well
  return result.numel() * result.itemsize > kShare;
}

/// Calls body(begin, end) over the items 0 … count, each reading and writing `bytes_per_item`
/// bytes: on libtorch's threads where every one of them gets enough to do, on the calling thread
/// otherwise. The body may not throw.
template <typename Body>
void parallel_for_bytes(int64_t count, int64_t bytes_per_item, const Body& body) {
  const int64_t grain =
      std::max<int64_t>(1, kBytesPerThread / std::max<int64_t>(1, bytes_per_item));
  if (count <= grain)
    body(int64_t{0}, count);
  else
    torch::stable::parallel_for(0, count, grain, body);
}

}  // namespace vllm_ops::cpu
