// SPDX-License-Identifier: Apache-2.0
// A graph of at::cuda::CUDAGraph with the memory that it works on.

#pragma once

#include <ATen/cuda/CUDAGraph.h>

#include <memory>
#include <string>
#include <vector>

#include "capture_watch.h"

namespace vllm_ops {

class CapturedGraph {
  // With what libtorch's own knows of its end.
  struct Graph final : at::cuda::CUDAGraph {
    bool has_ended() const { return capture_ended_; }
  };

 public:
  // Captures from here on what this thread queues on the current stream of the device, which must
  // not be the default one. `shared` is a graph whose pool of memory this one takes part in.
  CapturedGraph(c10::DeviceIndex device, CapturedGraph* shared);
  ~CapturedGraph();
  CapturedGraph(const CapturedGraph&) = delete;
  CapturedGraph& operator=(const CapturedGraph&) = delete;

  // Throws where something could not be captured: then `abort`.
  void end();
  // Instead of `end`, or after it has failed. Returns the op that ended the capture, or ''.
  std::string abort() noexcept;
  void replay();
  void release() noexcept;  // twice is once

 private:
  c10::DeviceIndex device_;
  c10::MempoolId_t pool_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<CaptureWatch> watch_;
  std::vector<c10::Storage> memory_;
  bool pool_open_ = true;
};

}  // namespace vllm_ops
