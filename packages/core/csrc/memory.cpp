// SPDX-License-Identifier: Apache-2.0
// What the tensors of one environment hold: counts, and the live ones themselves.

#include <ATen/Functions.h>
#include <sys/mman.h>
#include <unistd.h>

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

// setHostLimit(bytes): an op whose result would take `allocated` beyond it fails; 0: none.
Napi::Value set_host_limit(const Napi::CallbackInfo& info) {
  Environment::of(info.Env()).tensors->limit =
      static_cast<int64_t>(info[0].As<Napi::Number>().DoubleValue());
  return info.Env().Undefined();
}

// hasBasicFinalizers(): whether forgotten tensors go inside the collector, as far as the addon
// knows.
Napi::Value has_basic_finalizers(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), Environment::of(info.Env()).runtime.basic_finalizers);
}

// pagedBytes(bytes, atEnd): a uint8 tensor between two pages that nobody can read or write; it ends
// where the second begins, or begins where the first ends. For checks of kernels.
Napi::Value paged_bytes(const Napi::CallbackInfo& info) {
  return guarded(info, "pagedBytes", [&](Environment& environment) -> Napi::Value {
    const auto size = static_cast<size_t>(info[0].As<Napi::Number>().DoubleValue());
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t middle = (size + page - 1) / page * page;
    const size_t whole = middle + 2 * page;
    void* const memory = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw CodedError("E_OUT_OF_MEMORY", "no pages to guard memory with");
    char* const begin = static_cast<char*>(memory) + page;
    TORCH_CHECK(middle == 0 || mprotect(begin, middle, PROT_READ | PROT_WRITE) == 0,
                "pages stay closed");
    TensorEntry entry;
    entry.tensor = at::from_blob(
        info[1].ToBoolean().Value() ? begin + middle - size : begin, {static_cast<int64_t>(size)},
        [memory, whole](void*) { munmap(memory, whole); }, at::kByte);
    return Napi::Number::New(info.Env(), environment.tensors->handles.insert(std::move(entry)));
  });
}

}  // namespace

void export_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("liveTensors", Napi::Function::New(env, live_tensors, "liveTensors"));
  exports.Set("liveHandles", Napi::Function::New(env, live_handles, "liveHandles"));
  exports.Set("arrayBuffers", Napi::Function::New(env, array_buffers, "arrayBuffers"));
  exports.Set("hostMemory", Napi::Function::New(env, host_memory, "hostMemory"));
  exports.Set("setHostLimit", Napi::Function::New(env, set_host_limit, "setHostLimit"));
  exports.Set("hasBasicFinalizers",
              Napi::Function::New(env, has_basic_finalizers, "hasBasicFinalizers"));
  exports.Set("pagedBytes", Napi::Function::New(env, paged_bytes, "pagedBytes"));
  exports.Set("resetHostPeak", Napi::Function::New(env, reset_host_peak, "resetHostPeak"));
}

}  // namespace vllm_ops
