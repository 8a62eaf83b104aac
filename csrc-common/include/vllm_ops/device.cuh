// SPDX-License-Identifier: Apache-2.0
//
// The device of an op's arguments, on the stable ABI only: checks of arguments that have to be on
// one device, errors of CUDA's runtime, what is asked of the driver at every launch, the device
// guard, and torch's current stream.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/headeronly/util/shim_utils.h>
#include <vllm_ops/check.h>

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace vllm_ops::cuda {

/// The checks of one CUDA op: those of Check, and that its tensors are on one CUDA device. The
/// dispatcher calls a CUDA kernel as soon as one of the tensors is there.
class DeviceCheck : public Check {
 public:
  explicit constexpr DeviceCheck(const char* op) : Check(op) {}

  /// Reads an argument that the op does not write.
  template <typename AnyTensor>
  View input(const char* name, const AnyTensor& tensor) {
    require_device(name, tensor.get());
    return Check::input(name, tensor);
  }

  /// Reads an argument that the op writes.
  template <typename AnyTensor>
  MutableView output(const char* name, AnyTensor& tensor) {
    require_device(name, tensor.get());
    return Check::output(name, tensor);
  }

  /// The index of the device that the arguments are on; -1 before the first is read.
  int32_t device() const { return device_; }

  /// Where a tensor is, as torch spells it: "cpu", "cuda:1".
  static std::string device_name(AtenTensorHandle tensor) {
    int32_t type = 0, index = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor, &type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor, &index));
    if (type == aoti_torch_device_type_cuda()) return text("cuda:", index);
    if (type == aoti_torch_device_type_cpu()) return "cpu";
    return text("a device of type ", type);
  }

 private:
  void require_device(const char* name, AtenTensorHandle tensor) {
    static const int32_t kCuda = aoti_torch_device_type_cuda();
    int32_t type = 0, index = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(tensor, &type));
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(tensor, &index));
    if (type == kCuda && device_ < 0) device_ = index;
    if (type != kCuda || index != device_)
      fail(name, device_ < 0 ? "a CUDA tensor" : text("a tensor on cuda:", device_),
           device_name(tensor));
  }

  int32_t device_ = -1;
};

/// Throws when a call of the CUDA runtime failed: "vllm_ops::<op>: <what>: <CUDA's words>".
inline void require_success(const Check& check, const char* what, cudaError_t error) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());  // else the next call that asks would be blamed
  throw std::runtime_error(text("vllm_ops::", check.op(), ": ", what, ": ",
                                cudaGetErrorString(error), " (", cudaGetErrorName(error), ")"));
}

/// The driver's functions that are called at every launch, null where there are none. Found at run
/// time: a library that is linked with the driver's doesn't open on machines without one.
struct Driver {
  decltype(&cuLaunchKernelEx) launch = entry<decltype(&cuLaunchKernelEx)>("cuLaunchKernelEx");
  decltype(&cuCtxGetDevice) context_device = entry<decltype(&cuCtxGetDevice)>("cuCtxGetDevice");

  static const Driver& get() {
    static const Driver driver;
    return driver;
  }

 private:
  template <typename Function>
  static Function entry(const char* name) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    // As in CUDA 12.0, which every driver has that this runtime works with.
    const cudaError_t error =
        cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
    if (error != cudaSuccess) static_cast<void>(cudaGetLastError());  // as above
    const bool usable = error == cudaSuccess && found == cudaDriverEntryPointSuccess;
    return reinterpret_cast<Function>(usable ? function : nullptr);
  }
};

/// Makes a device the current one for as long as it lives, for the runtime that is linked here,
/// whose kernels are launched. Not libtorch's guard, which allocates.
class DeviceGuard {
 public:
  DeviceGuard(const Check& check, int32_t device) {
    if (is_current(device)) return;
    require_success(check, "the current device is unknown", cudaGetDevice(&before_));
    changed_ = before_ != device;
    if (changed_)
      require_success(check, "the device cannot be made current", cudaSetDevice(device));
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  ~DeviceGuard() {
    if (changed_) static_cast<void>(cudaSetDevice(before_));
  }

 private:
  /// The driver's answer takes a third of the time of the runtime's. It has none on a thread
  /// without a context.
  static bool is_current(int32_t device) {
    const auto context_device = Driver::get().context_device;
    CUdevice current = -1;
    return context_device != nullptr && context_device(&current) == CUDA_SUCCESS &&
           current == device;
  }

  int before_ = 0;
  bool changed_ = false;
};

/// torch's current stream of a device.
inline cudaStream_t current_stream(int32_t device) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

/// Blocks of a cluster at most: what every device that has clusters can run.
constexpr int kMostClusterBlocks = 8;

/// Devices that are known one by one; a machine has fewer.
constexpr int kDevices = 64;

/// An attribute of a device that is never 0. Asked once for each.
template <cudaDeviceAttr Attribute>
int device_attribute(const Check& check, int32_t device) {
  static std::array<int, kDevices> known{};  // a race writes the same number twice
  if (device < kDevices && known[device] != 0) return known[device];
  int value = 0;
  require_success(check, "the device has no attributes",
                  cudaDeviceGetAttribute(&value, Attribute, device));
  if (device < kDevices) known[device] = value;
  return value;
}

/// Streaming multiprocessors of a device.
inline int multiprocessors(const Check& check, int32_t device) {
  return device_attribute<cudaDevAttrMultiProcessorCount>(check, device);
}

/// Bytes of shared memory that a block of a device can have, once they are allowed.
inline int largest_shared(const Check& check, int32_t device) {
  return device_attribute<cudaDevAttrMaxSharedMemoryPerBlockOptin>(check, device);
}

}  // namespace vllm_ops::cuda
