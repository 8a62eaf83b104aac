// SPDX-License-Identifier: Apache-2.0
// Devices by libtorch's device-generic interfaces. What is there is asked of the guards that device
// libraries register as they are opened, never of the accelerator hooks: libtorch keeps the hooks'
// first answer for good, and before the device's library is open that answer is "none".

#pragma once

#include <c10/core/Device.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <string>
#include <vector>

namespace vllm_ops {

// The guard of a device type, or nullptr where no library has registered one.
const c10::impl::DeviceGuardImplInterface* guard_of(c10::DeviceType type);

// The types of accelerator that are there, with at least one device each.
std::vector<c10::DeviceType> accelerator_types();

// Whether work on this type of device is queued and runs on its own: not on the CPU, nor on Meta.
bool has_queue(c10::DeviceType type);

// The accelerators' devices that were used: each has a context, which asking does not make.
std::vector<c10::Device> devices_in_use();

// The device of this name, its index filled in (the current one of its type where none is given)
// and its type initialized. Throws CodedError E_NO_DEVICE where there is none.
c10::Device require_device(const std::string& name);

// How JavaScript names a device: 'cpu', 'meta', 'cuda:0'.
std::string name_of(c10::Device device);

}  // namespace vllm_ops
