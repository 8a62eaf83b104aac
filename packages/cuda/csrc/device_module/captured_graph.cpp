// SPDX-License-Identifier: Apache-2.0

#include "captured_graph.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <torch/version.h>

namespace vllm_ops {

namespace allocator = c10::cuda::CUDACachingAllocator;

CapturedGraph::CapturedGraph(c10::DeviceIndex device, CapturedGraph* shared) : device_(device) {
  const c10::cuda::CUDAGuard guard(device);
  TORCH_CHECK(shared == nullptr || shared->graph_ != nullptr, "the graph was disposed");
  pool_ = shared != nullptr ? shared->pool_ : at::cuda::graph_pool_handle();
  auto watch = std::make_unique<CaptureWatch>(c10::cuda::getCurrentCUDAStream(device));
  graph_ = std::make_unique<Graph>();
  // Other threads may use the device meanwhile, as other workers of Node do.
  graph_->capture_begin(pool_, cudaStreamCaptureModeThreadLocal);
  watch_ = std::move(watch);
}

CapturedGraph::~CapturedGraph() { release(); }

void CapturedGraph::end() {
  const c10::cuda::CUDAGuard guard(device_);
  watch_->stop();
  graph_->capture_end();
  pool_open_ = false;
  memory_ = watch_->take_memory();
  watch_.reset();
}

std::string CapturedGraph::abort() noexcept {
  if (graph_ == nullptr) return {};
  const std::string culprit = watch_ != nullptr ? watch_->culprit() : std::string();
  watch_.reset();
  try {
    const c10::cuda::CUDAGuard guard(device_);
    try {
      if (pool_open_) graph_->capture_end();
      pool_open_ = false;
    } catch (const std::exception&) {
      // It was invalid. libtorch then leaves the allocator in the graph's pool, as if it went on.
    }
    if (pool_open_) {
      try {
        allocator::endAllocateToPool(device_, pool_);
      } catch (const std::exception&) {
        // This libtorch has left it itself.
      }
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 14
      // Later ones give the pool back when the graph is reset, however the capture ended.
      if (!graph_->has_ended()) allocator::releasePool(device_, pool_);
#endif
      pool_open_ = false;
    }
    cudaGetLastError();  // The error was reported; it is nobody else's.
  } catch (const std::exception&) {
    // The device is gone: nothing is left to give back.
  }
  release();
  return culprit;
}

void CapturedGraph::replay() {
  TORCH_CHECK(graph_ != nullptr, "the graph was disposed");
  graph_->replay();
}

void CapturedGraph::release() noexcept {
  watch_.reset();
  graph_.reset();
  memory_.clear();
}

}  // namespace vllm_ops
