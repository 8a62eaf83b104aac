// SPDX-License-Identifier: Apache-2.0
// vllm_ops_cuda_device.node: the device module of @vllm-ops/cuda. Its exports are the
// `DeviceModule` of core's src/device-module.ts. It binds by name to the libtorch_cuda that `use`
// has opened, and is built, as core's addon is, against the release of torch that it runs on.

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda_runtime_api.h>
#include <node_api.h>
#include <torch/version.h>

#include <exception>
#include <string>

#include "captured_graph.h"

// Of ATen/cuda/CUDAContext.h, which needs the headers of cuSPARSE, cuBLAS and cuSOLVER too.
namespace at::cuda {
TORCH_CUDA_CPP_API cudaDeviceProp* getDeviceProperties(c10::DeviceIndex device);
}

namespace vllm_ops {
namespace {

// The arguments of a call, and the C++ exceptions of its body as JavaScript's.
template <typename Body>
napi_value guarded(napi_env env, napi_callback_info info, Body body) {
  size_t count = 2;
  napi_value arguments[2];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  try {
    return body(arguments);
  } catch (const c10::Error& error) {
    napi_throw_error(env, nullptr, error.what_without_backtrace());
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

CapturedGraph* graph_of(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  napi_typeof(env, value, &type);
  void* data = nullptr;
  if (type == napi_external) napi_get_value_external(env, value, &data);
  return static_cast<CapturedGraph*>(data);
}

CapturedGraph& require_graph(napi_env env, napi_value value) {
  CapturedGraph* graph = graph_of(env, value);
  TORCH_CHECK(graph != nullptr, "no graph of this module");
  return *graph;
}

c10::DeviceIndex index_of(napi_env env, napi_value value) {
  int32_t index = -1;
  napi_get_value_int32(env, value, &index);
  TORCH_CHECK(index >= 0 && index < c10::cuda::device_count(), "no device cuda:", index);
  return static_cast<c10::DeviceIndex>(index);
}

// beginCapture(index, shareWith?)
napi_value begin_capture(napi_env env, napi_callback_info info) {
  return guarded(env, info, [&](napi_value* arguments) {
    auto graph =
        std::make_unique<CapturedGraph>(index_of(env, arguments[0]), graph_of(env, arguments[1]));
    napi_value result;
    napi_create_external(
        env, graph.get(),
        [](napi_env, void* data, void*) { delete static_cast<CapturedGraph*>(data); }, nullptr,
        &result);
    graph.release();
    return result;
  });
}

napi_value end_capture(napi_env env, napi_callback_info info) {
  return guarded(env, info, [&](napi_value* arguments) -> napi_value {
    require_graph(env, arguments[0]).end();
    return nullptr;
  });
}

napi_value abort_capture(napi_env env, napi_callback_info info) {
  return guarded(env, info, [&](napi_value* arguments) -> napi_value {
    const std::string op = require_graph(env, arguments[0]).abort();
    napi_value result;
    napi_create_string_utf8(env, op.c_str(), op.size(), &result);
    return result;
  });
}

napi_value replay(napi_env env, napi_callback_info info) {
  return guarded(env, info, [&](napi_value* arguments) -> napi_value {
    require_graph(env, arguments[0]).replay();
    return nullptr;
  });
}

napi_value release(napi_env env, napi_callback_info info) {
  return guarded(env, info, [&](napi_value* arguments) -> napi_value {
    require_graph(env, arguments[0]).release();
    return nullptr;
  });
}

void set_string(napi_env env, napi_value object, const char* name, const std::string& text) {
  napi_value value;
  napi_create_string_utf8(env, text.c_str(), text.size(), &value);
  napi_set_named_property(env, object, name, value);
}

void set_number(napi_env env, napi_value object, const char* name, double number) {
  napi_value value;
  napi_create_double(env, number, &value);
  napi_set_named_property(env, object, name, value);
}

int attribute(cudaDeviceAttr which, c10::DeviceIndex index) {
  int value = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, index));
  return value;
}

// describeDevice(index)
napi_value describe_device(napi_env env, napi_callback_info info) {
  return guarded(env, info, [&](napi_value* arguments) {
    const c10::DeviceIndex index = index_of(env, arguments[0]);
    const cudaDeviceProp* properties = at::cuda::getDeviceProperties(index);
    napi_value result;
    napi_create_object(env, &result);
    set_string(env, result, "name", properties->name);
    set_string(env, result, "capability",
               std::to_string(attribute(cudaDevAttrComputeCapabilityMajor, index)) + "." +
                   std::to_string(attribute(cudaDevAttrComputeCapabilityMinor, index)));
    set_number(env, result, "totalMemory", static_cast<double>(properties->totalGlobalMem));
    set_number(env, result, "multiProcessorCount",
               attribute(cudaDevAttrMultiProcessorCount, index));
    return result;
  });
}

}  // namespace
}  // namespace vllm_ops

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  const struct {
    const char* name;
    napi_callback function;
  } functions[] = {
      {"describeDevice", vllm_ops::describe_device},
      {"beginCapture", vllm_ops::begin_capture},
      {"endCapture", vllm_ops::end_capture},
      {"abortCapture", vllm_ops::abort_capture},
      {"replay", vllm_ops::replay},
      {"release", vllm_ops::release},
  };
  for (const auto& [name, function] : functions) {
    napi_value value;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, function, nullptr, &value);
    napi_set_named_property(env, exports, name, value);
  }
  vllm_ops::set_string(env, exports, "deviceType", "cuda");
  vllm_ops::set_string(env, exports, "torchVersion", TORCH_VERSION);
  return exports;
}
