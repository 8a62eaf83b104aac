// SPDX-License-Identifier: Apache-2.0
// The addon's start: one Environment for each Node environment.

#include <torch/version.h>

#include "call.h"

namespace vllm_ops {
namespace {

// initialize({ protocol, dtypes: [[name, code], …], invokeKernel, grow }): once for an environment.
Napi::Value initialize(const Napi::CallbackInfo& info) {
  return guarded(info, "initialize", [&](Environment& environment) -> Napi::Value {
    TORCH_CHECK(environment.invoke_kernel == nullptr,
                "two copies of @vllm-ops/core share one addon: import the built package only");
    const Napi::Object options = info[0].As<Napi::Object>();
    const int protocol = options.Get("protocol").As<Napi::Number>().Int32Value();
    TORCH_CHECK(protocol == kProtocol, "the addon speaks protocol ", kProtocol,
                ", the package protocol ", protocol, ": rebuild @vllm-ops/core");
    const Napi::Array dtypes = options.Get("dtypes").As<Napi::Array>();
    environment.dtypes.clear();
    for (uint32_t i = 0; i < dtypes.Length(); ++i) {
      const Napi::Array pair = dtypes.Get(i).As<Napi::Array>();
      environment.dtypes.emplace_back(
          pair.Get(0u).As<Napi::String>().Utf8Value(),
          static_cast<c10::ScalarType>(pair.Get(1u).As<Napi::Number>().Int32Value()));
    }
    napi_create_reference(info.Env(), options.Get("invokeKernel"), 1, &environment.invoke_kernel);
    napi_create_reference(info.Env(), options.Get("grow"), 1, &environment.grow);
    return info.Env().Undefined();
  });
}

// setBuffer(tags: Uint8Array, values: Float64Array): the argument buffer from now on. What stands
// in the old one is copied by the caller.
Napi::Value set_buffer(const Napi::CallbackInfo& info) {
  return guarded(info, "setBuffer", [&](Environment& environment) -> Napi::Value {
    Napi::Uint8Array tags = info[0].As<Napi::Uint8Array>();
    Napi::Float64Array values = info[1].As<Napi::Float64Array>();
    TORCH_CHECK(tags.ElementLength() == values.ElementLength(), "buffers of different lengths");
    napi_ref references[2];
    napi_create_reference(info.Env(), tags, 1, &references[0]);
    napi_create_reference(info.Env(), values, 1, &references[1]);
    if (environment.tag_buffer != nullptr)
      napi_delete_reference(info.Env(), environment.tag_buffer);
    if (environment.value_buffer != nullptr) {
      napi_delete_reference(info.Env(), environment.value_buffer);
    }
    environment.tag_buffer = references[0];
    environment.value_buffer = references[1];
    environment.tags = tags.Data();
    environment.values = values.Data();
    environment.integers = reinterpret_cast<int64_t*>(values.Data());
    environment.capacity = tags.ElementLength();
    return info.Env().Undefined();
  });
}

Napi::Object start(Napi::Env env, Napi::Object exports) {
  auto* environment = new Environment(env);
  napi_set_instance_data(
      env, environment,
      [](node_api_basic_env, void* data, void*) { delete static_cast<Environment*>(data); },
      nullptr);
  exports.Set("torchVersion", TORCH_VERSION);
  exports.Set("initialize", Napi::Function::New(env, initialize, "initialize"));
  exports.Set("setBuffer", Napi::Function::New(env, set_buffer, "setBuffer"));
  export_call(env, exports);
  export_tensor(env, exports);
  export_memory(env, exports);
  export_device(env, exports);
  export_stream(env, exports);
  export_async(env, exports);
  export_share(env, exports);
  export_dlpack(env, exports);
  export_library(env, exports);
  export_kernel(env, exports);
  export_profiler(env, exports);
  return exports;
}

}  // namespace
}  // namespace vllm_ops

static Napi::Object initialize_addon(Napi::Env env, Napi::Object exports) {
  return vllm_ops::start(env, exports);
}

NODE_API_MODULE(vllm_ops_core, initialize_addon)
