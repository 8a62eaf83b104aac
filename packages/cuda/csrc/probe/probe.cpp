// SPDX-License-Identifier: Apache-2.0
//
// vllm_ops_cuda_probe.so: asks the NVIDIA driver what it has. A library of its own, which needs
// neither the CUDA runtime nor libtorch_cuda, so that it opens wherever the package is installed.

#include <dlfcn.h>

#include <string>

namespace {

// Of the driver's API (cuda.h), which has to be found at run time.
using Init = int(unsigned flags);
using Count = int(int* value);
using ErrorString = int(int error, const char** text);

template <typename Function>
Function* find(void* driver, const char* name) {
  return reinterpret_cast<Function*>(dlsym(driver, name));
}

std::string error(const std::string& text) { return R"({"error": ")" + text + R"("})"; }

std::string probe() {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return error("libcuda.so.1 does not open");
  const auto init = find<Init>(driver, "cuInit");
  const auto version = find<Count>(driver, "cuDriverGetVersion");
  const auto count = find<Count>(driver, "cuDeviceGetCount");
  const auto describe = find<ErrorString>(driver, "cuGetErrorString");
  if (init == nullptr || version == nullptr || count == nullptr || describe == nullptr)
    return error("libcuda.so.1 is no CUDA driver");
  constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE
  int driver_version = 0, devices = 0;
  for (const int failure : {init(0), version(&driver_version), count(&devices)}) {
    if (failure == 0) continue;
    if (failure == kNoDevice) {
      devices = 0;
      break;
    }
    const char* text = nullptr;
    describe(failure, &text);
    return error(text != nullptr ? text : "error " + std::to_string(failure));
  }
  return R"({"driver": )" + std::to_string(driver_version) + R"(, "devices": )" +
         std::to_string(devices) + R"(, "toolkit": )" + std::to_string(VLLM_OPS_CUDA_VERSION) + "}";
}

}  // namespace

/// What the driver says, as JSON: `{"driver": 13000, "devices": 1, "toolkit": 13000}` with the
/// versions of CUDA that the driver supports and that the kernels were built with (1000 * major +
/// 10
/// * minor), or `{"error": "…"}` in the driver's words. Asked once in a process.
extern "C" __attribute__((visibility("default"))) const char* vllm_ops_cuda_probe(void) {
  static const std::string answer = probe();
  return answer.c_str();
}
