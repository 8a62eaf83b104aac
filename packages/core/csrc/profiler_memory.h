// SPDX-License-Identifier: Apache-2.0
// What the allocators of a thread report, for as long as a profile wants to know.

#pragma once

#include <c10/util/Flags.h>
#include <torch/csrc/profiler/orchestration/observer.h>
#include <torch/csrc/profiler/util.h>

#include <algorithm>
#include <memory>
#include <utility>

C10_DECLARE_int(caffe2_log_level);

namespace vllm_ops {

// The profiler of this thread. Newer releases of torch have a function for it, older ones one with
// a parameter.
template <typename State = torch::profiler::impl::ProfilerStateBase>
State* thread_profiler() {
  if constexpr (requires { State::getTLS(); }) {
    return State::getTLS();
  } else {
    return State::get(false);
  }
}

// Receives the reports of one thread. It is a profiler's state since PyTorch takes whatever stands
// in that place for one.
class ThreadMemory : public torch::profiler::impl::ProfilerStateBase {
 public:
  ThreadMemory()
      : ProfilerStateBase(torch::profiler::impl::ProfilerConfig(
            torch::profiler::impl::ProfilerState::CPU, false, true)) {}

  torch::profiler::impl::ActiveProfilerType profilerType() override {
    return torch::profiler::impl::ActiveProfilerType::LEGACY;
  }
};

// While memory is reported, the allocator would warn of every tensor that is older than the
// profile.
class QuietAllocator {
 public:
  QuietAllocator() : level_(FLAGS_caffe2_log_level) {
    FLAGS_caffe2_log_level = std::max(level_, 2);
  }
  ~QuietAllocator() { FLAGS_caffe2_log_level = level_; }
  QuietAllocator(const QuietAllocator&) = delete;
  QuietAllocator& operator=(const QuietAllocator&) = delete;

 private:
  int level_;
};

// Has this thread's allocators report to `state`, unless another profiler has the thread.
class MemoryReports {
 public:
  explicit MemoryReports(std::shared_ptr<ThreadMemory> state)
      : active_(thread_profiler() == nullptr) {
    if (active_) torch::profiler::impl::ProfilerStateBase::push(std::move(state));
  }
  ~MemoryReports() {
    if (active_) torch::profiler::impl::ProfilerStateBase::pop(false);
  }
  MemoryReports(const MemoryReports&) = delete;
  MemoryReports& operator=(const MemoryReports&) = delete;

 private:
  bool active_;
};

}  // namespace vllm_ops
