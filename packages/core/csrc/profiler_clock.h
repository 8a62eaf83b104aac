// SPDX-License-Identifier: Apache-2.0
// The profiler's clock: the processor's own counter of time, which takes a fraction of what asking
// the system takes, and how fast it counts, measured against the system's clock.

#pragma once

#include <c10/util/ApproximateClock.h>
#include <time.h>

#include <cstdint>

namespace vllm_ops {

inline uint64_t ticks() { return static_cast<uint64_t>(c10::getApproximateTime()); }

inline uint64_t nanoseconds() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000 + static_cast<uint64_t>(time.tv_nsec);
}

// The same moment on both clocks.
struct Moment {
  uint64_t ticks = 0;
  uint64_t nanoseconds = 0;

  static Moment now() {
    // The narrowest of some readings: any may be interrupted.
    Moment best;
    uint64_t narrowest = UINT64_MAX;
    for (int i = 0; i < 8; ++i) {
      const uint64_t before = vllm_ops::ticks();
      const uint64_t time = vllm_ops::nanoseconds();
      const uint64_t width = vllm_ops::ticks() - before;
      if (width >= narrowest) continue;
      narrowest = width;
      best = {before + width / 2, time};
    }
    return best;
  }

  // Nanoseconds a tick, from here to now.
  double tick() const {
    const Moment end = now();
    return end.ticks > ticks
               ? static_cast<double>(end.nanoseconds - nanoseconds) / (end.ticks - ticks)
               : 1;
  }
};

}  // namespace vllm_ops
