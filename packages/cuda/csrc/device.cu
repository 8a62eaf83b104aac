// SPDX-License-Identifier: Apache-2.0
//
// get_device_attribute, get_max_shared_memory_per_block_device_attribute: what the CUDA runtime
// tells of a device. They take no tensor, so there is nothing to dispatch on: they are registered
// under the composite key. Definition: vLLM's.

#include <vllm_ops/kernel.h>
#include <vllm_ops/launch.cuh>

namespace vllm_ops::cuda {
namespace {

/// The index of a device: the current one's where it is negative.
int device_index(const Check& check, int64_t device_id) {
  int count = 0, current = 0;
  require_success(check, "the devices cannot be counted", cudaGetDeviceCount(&count));
  if (device_id >= count)
    check.fail("device_id",
               text("a device below ", count, ", or a negative number for the current one"),
               text(device_id));
  if (device_id >= 0) return static_cast<int>(device_id);
  require_success(check, "the current device is unknown", cudaGetDevice(&current));
  return current;
}

}  // namespace

int64_t get_device_attribute(int64_t attribute, int64_t device_id) {
  constexpr Check check("get_device_attribute");
  const int device = device_index(check, device_id);
  int value = 0;
  cudaError_t error = cudaErrorInvalidValue;
  if (attribute > 0 && attribute < cudaDevAttrMax)
    error = cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(attribute), device);
  if (error == cudaErrorInvalidValue) {
    static_cast<void>(cudaGetLastError());  // else the next call that asks would be blamed
    check.fail("attribute", "a number of CUDA's cudaDeviceAttr", text(attribute));
  }
  require_success(check, "the device has no attributes", error);
  return value;
}
VLLM_OPS_KERNEL(CompositeExplicitAutograd, get_device_attribute, get_device_attribute)

int64_t get_max_shared_memory_per_block_device_attribute(int64_t device_id) {
  constexpr Check check("get_max_shared_memory_per_block_device_attribute");
  return largest_shared(check, device_index(check, device_id));
}
VLLM_OPS_KERNEL(CompositeExplicitAutograd, get_max_shared_memory_per_block_device_attribute,
                get_max_shared_memory_per_block_device_attribute)

}  // namespace vllm_ops::cuda
