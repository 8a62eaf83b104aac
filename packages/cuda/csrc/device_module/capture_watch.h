// SPDX-License-Identifier: Apache-2.0
// Watches the ops of a capture, of this thread. A graph repeats what it was shown with the
// addresses it was shown: the watch keeps the memory that came from outside alive, and finds the
// op that ended a capture which CUDA only reports at its end.

#pragma once

#include <ATen/record_function.h>
#include <c10/core/Storage.h>
#include <c10/cuda/CUDAStream.h>

#include <string>
#include <unordered_set>
#include <vector>

namespace vllm_ops {

class CaptureWatch {
 public:
  // From here to `stop` the ops of this thread are watched. One watch a thread at a time.
  explicit CaptureWatch(c10::cuda::CUDAStream stream);
  ~CaptureWatch();
  CaptureWatch(const CaptureWatch&) = delete;
  CaptureWatch& operator=(const CaptureWatch&) = delete;

  void stop();

  // The first op after which the capture was invalid; empty where there was none.
  const std::string& culprit() const { return culprit_; }

  // The memory that ops were given and that none of them has made.
  std::vector<c10::Storage> take_memory() { return std::move(memory_); }

 private:
  static std::unique_ptr<at::ObserverContext> before(const at::RecordFunction& function);
  static void after(const at::RecordFunction& function, at::ObserverContext* context);
  void take_inputs(const at::RecordFunction& function);
  void note_outputs(const at::RecordFunction& function);

  c10::cuda::CUDAStream stream_;
  at::CallbackHandle handle_;
  bool watching_ = true;
  std::string culprit_;
  std::unordered_set<const c10::StorageImpl*> made_;
  std::unordered_set<const c10::StorageImpl*> held_;
  std::vector<c10::Storage> memory_;
};

}  // namespace vllm_ops
