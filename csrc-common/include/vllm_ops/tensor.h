// SPDX-License-Identifier: Apache-2.0
//
// The tensor argument of a kernel.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <utility>

namespace vllm_ops {

/// A tensor that the dispatcher handed to a kernel. It owns its handle as torch::stable::Tensor
/// does, but alone: the shared_ptr in there costs an allocation for each argument of each call, a
/// fifth of what a small op takes in all.
class Tensor {
 public:
  /// Takes the handle over.
  explicit Tensor(AtenTensorHandle handle) : handle_(handle) {}
  Tensor(Tensor&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Tensor& operator=(Tensor&&) = delete;
  ~Tensor() {
    // Nothing can be done about a failure here, and deleting a handle that is valid does not fail.
    if (handle_ != nullptr) static_cast<void>(aoti_torch_delete_tensor_object(handle_));
  }

  AtenTensorHandle get() const { return handle_; }

 private:
  AtenTensorHandle handle_;
};

}  // namespace vllm_ops
