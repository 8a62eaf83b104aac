// SPDX-License-Identifier: Apache-2.0
// What is current in a thread, of every accelerator that is there: its device, and the stream of
// each of its devices. Ops look both up where they run.

#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

#include <vector>

namespace vllm_ops {

struct CurrentDevices {
  std::vector<c10::Device> devices;  // one of each type
  std::vector<c10::Stream> streams;  // one of each device

  static CurrentDevices of_this_thread();
};

// Makes what is current in one thread current in another for as long as it lives there.
class CurrentDevicesGuard {
 public:
  explicit CurrentDevicesGuard(const CurrentDevices& wanted);
  CurrentDevicesGuard(const CurrentDevicesGuard&) = delete;
  CurrentDevicesGuard& operator=(const CurrentDevicesGuard&) = delete;
  ~CurrentDevicesGuard();

 private:
  CurrentDevices before_;
};

}  // namespace vllm_ops
