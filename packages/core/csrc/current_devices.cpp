// SPDX-License-Identifier: Apache-2.0

#include "current_devices.h"

#include "device.h"

namespace vllm_ops {

CurrentDevices CurrentDevices::of_this_thread() {
  CurrentDevices current;
  for (const c10::DeviceType type : accelerator_types()) {
    const auto* guard = guard_of(type);
    current.devices.push_back(guard->getDevice());
    for (c10::DeviceIndex i = 0; i < guard->deviceCount(); ++i) {
      current.streams.push_back(guard->getStream({type, i}));
    }
  }
  return current;
}

CurrentDevicesGuard::CurrentDevicesGuard(const CurrentDevices& wanted) {
  // Exchanged, and not set: that touches no device which is current already.
  for (const c10::Device device : wanted.devices) {
    before_.devices.push_back(guard_of(device.type())->exchangeDevice(device));
  }
  for (const c10::Stream stream : wanted.streams) {
    before_.streams.push_back(guard_of(stream.device_type())->exchangeStream(stream));
  }
}

CurrentDevicesGuard::~CurrentDevicesGuard() {
  for (const c10::Stream stream : before_.streams) {
    guard_of(stream.device_type())->exchangeStream(stream);
  }
  for (const c10::Device device : before_.devices) {
    guard_of(device.type())->uncheckedSetDevice(device);
  }
}

}  // namespace vllm_ops
