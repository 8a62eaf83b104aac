// SPDX-License-Identifier: Apache-2.0

#include "capture_watch.h"

#include <ATen/core/List.h>
#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>

namespace vllm_ops {
namespace {

thread_local CaptureWatch* active = nullptr;

template <typename Visit>
void each_storage(const c10::IValue& value, const Visit& visit) {
  if (value.isTensor()) {
    const at::Tensor& tensor = value.toTensor();
    if (tensor.defined() && tensor.has_storage()) visit(tensor.storage());
  } else if (value.isList()) {
    for (const c10::IValue& item : value.toListRef()) each_storage(item, visit);
  }
}

}  // namespace

CaptureWatch::CaptureWatch(c10::cuda::CUDAStream stream) : stream_(stream) {
  TORCH_CHECK(active == nullptr, "a capture is running in this thread already");
  handle_ = at::addThreadLocalCallback(at::RecordFunctionCallback(before, after)
                                           .needsInputs(true)
                                           .needsOutputs(true)
                                           .scopes({at::RecordScope::FUNCTION}));
  active = this;
}

CaptureWatch::~CaptureWatch() { stop(); }

void CaptureWatch::stop() {
  if (!watching_) return;
  watching_ = false;
  at::removeCallback(handle_);
  active = nullptr;
}

std::unique_ptr<at::ObserverContext> CaptureWatch::before(const at::RecordFunction& function) {
  if (active != nullptr) active->take_inputs(function);
  return nullptr;
}

void CaptureWatch::after(const at::RecordFunction& function, at::ObserverContext*) {
  if (active != nullptr) active->note_outputs(function);
}

void CaptureWatch::take_inputs(const at::RecordFunction& function) {
  for (const c10::IValue& input : function.inputs()) {
    each_storage(input, [&](const c10::Storage& storage) {
      const c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
      if (made_.count(impl) == 0 && held_.insert(impl).second) memory_.push_back(storage);
    });
  }
}

void CaptureWatch::note_outputs(const at::RecordFunction& function) {
  for (const c10::IValue& output : function.outputs()) {
    // Views and in-place ops return what was there before.
    each_storage(output, [&](const c10::Storage& storage) {
      const c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
      if (held_.count(impl) == 0) made_.insert(impl);
    });
  }
  if (!culprit_.empty()) return;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
  if (cudaStreamIsCapturing(stream_.stream(), &status) != cudaSuccess ||
      status == cudaStreamCaptureStatusInvalidated) {
    culprit_ = function.name();
  }
}

}  // namespace vllm_ops
