// SPDX-License-Identifier: Apache-2.0
// What the tensors of one environment hold: counts, and the live ones themselves.

#include "call.h"

namespace vllm_ops {
namespace {

// liveTensors(): the number of live handles.
Napi::Value live_tensors(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  return Napi::Number::New(info.Env(), static_cast<double>(environment.tensors->handles.live()));
}

// liveHandles(): the live handles themselves.
Napi::Value live_handles(const Napi::CallbackInfo& info) {
  return guarded(info, "liveHandles", [&](Environment& environment) -> Napi::Value {
    const std::vector<double> all = environment.tensors->handles.all();
    Napi::Float64Array handles = Napi::Float64Array::New(info.Env(), all.size());
    for (size_t i = 0; i < all.size(); ++i) handles[i] = all[i];
    return handles;
  });
}

// arrayBuffers(): how many ArrayBuffers over memory of tensors are remembered, for tests of that
// memory.
Napi::Value array_buffers(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(Environment::of(info.Env()).array_buffers.size()));
}

// hostMemory(): what this environment's tensors hold of the CPU's memory: { allocated,
// allocatedPeak, allocations, allocationsMade }, in bytes and tensors.
Napi::Value host_memory(const Napi::CallbackInfo& info) {
  return guarded(info, "hostMemory", [&](Environment& environment) -> Napi::Value {
    const TensorTable& table = *environment.tensors;
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("allocated", static_cast<double>(table.allocated));
    result.Set("allocatedPeak", static_cast<double>(table.allocated_peak));
    result.Set("allocations", static_cast<double>(table.owners));
    result.Set("allocationsMade", static_cast<double>(table.owners_made));
    return result;
  });
}

// resetHostPeak(): the peak starts again from what is allocated now.
Napi::Value reset_host_peak(const Napi::CallbackInfo& info) {
  TensorTable& table = *Environment::of(info.Env()).tensors;
  table.allocated_peak = table.allocated;
  return info.Env().Undefined();
}

}  // namespace

void export_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("liveTensors", Napi::Function::New(env, live_tensors, "liveTensors"));
  exports.Set("liveHandles", Napi::Function::New(env, live_handles, "liveHandles"));
  exports.Set("arrayBuffers", Napi::Function::New(env, array_buffers, "arrayBuffers"));
  exports.Set("hostMemory", Napi::Function::New(env, host_memory, "hostMemory"));
  exports.Set("resetHostPeak", Napi::Function::New(env, reset_host_peak, "resetHostPeak"));
}

}  // namespace vllm_ops
