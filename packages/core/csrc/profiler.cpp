// SPDX-License-Identifier: Apache-2.0
// PyTorch's own profiler (Kineto with RecordFunction): every dispatched op with its shapes and
// dtypes, and on devices their kernels. Module scopes are RecordFunctions of USER_SCOPE that
// JavaScript opens and closes.

#include <ATen/record_function.h>
#include <c10/util/ScopeExit.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <atomic>

#include "call.h"

namespace vllm_ops {
namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ExperimentalConfig;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

// Kineto has one session for the process.
std::atomic<bool> running{false};

// A profile that could not be started, or that has ended, leaves the session to others.
void close(Environment& environment) {
  environment.scopes.clear();
  environment.profiling = false;
  running.store(false);
}

// profilerStart(shapes, cuda): cuda is whether a CUDA backend is in use.
Napi::Value start(const Napi::CallbackInfo& info) {
  return guarded(info, "profilerStart", [&](Environment& environment) -> Napi::Value {
    if (running.exchange(true)) {
      throw CodedError("E_PROFILER", "a profile is running in this process already");
    }
    environment.profiling = true;
    auto failed = c10::make_scope_exit([&] { close(environment); });
    const ProfilerConfig config(ProfilerState::KINETO, info[0].ToBoolean().Value());
    std::set<ActivityType> activities{ActivityType::CPU};
    // Asking the CUDA hooks before the CUDA library is loaded would settle their answer: JavaScript
    // knows its backends.
    if (info[1].ToBoolean().Value()) activities.insert(ActivityType::CUDA);
    profiler::prepareProfiler(config, activities);
    profiler::enableProfiler(config, activities,
                             {at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
    failed.release();
    return info.Env().Undefined();
  });
}

Napi::Array numbers(Napi::Env env, const std::vector<int64_t>& sizes) {
  Napi::Array array = Napi::Array::New(env, sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), static_cast<double>(sizes[i]));
  }
  return array;
}

// profilerStop(): RawEvent[] of src/profiler/record.ts. Times are nanoseconds since the first
// event.
Napi::Value stop(const Napi::CallbackInfo& info) {
  return guarded(info, "profilerStop", [&](Environment& environment) -> Napi::Value {
    if (!environment.profiling) throw CodedError("E_PROFILER", "no profile is running");
    const auto closing = c10::make_scope_exit([&] { close(environment); });
    environment.scopes.clear();
    const std::unique_ptr<profiler::ProfilerResult> result = profiler::disableProfiler();
    const Napi::Env env = info.Env();
    Napi::Array events = Napi::Array::New(env);
    uint64_t origin = UINT64_MAX;
    for (const profiler::KinetoEvent& event : result->events()) {
      origin = std::min(origin, static_cast<uint64_t>(event.startNs()));
    }
    uint32_t count = 0;
    for (const profiler::KinetoEvent& event : result->events()) {
      Napi::Object entry = Napi::Object::New(env);
      const bool cpu = event.deviceType() == c10::DeviceType::CPU;
      const bool scope = cpu && event.scope() == static_cast<uint8_t>(at::RecordScope::USER_SCOPE);
      entry.Set("name", event.name());
      entry.Set("start", static_cast<double>(static_cast<uint64_t>(event.startNs()) - origin));
      entry.Set("end", static_cast<double>(static_cast<uint64_t>(event.endNs()) - origin));
      entry.Set("thread", static_cast<double>(event.startThreadId()));
      entry.Set("device", cpu ? "cpu"
                              : c10::DeviceTypeName(event.deviceType(), true) + ":" +
                                    std::to_string(event.deviceIndex()));
      entry.Set("kind", !cpu ? "kernel" : scope ? "scope" : "op");
      entry.Set("correlation", static_cast<double>(event.correlationId()));
      entry.Set("linked", static_cast<double>(event.linkedCorrelationId()));
      Napi::Array shapes = Napi::Array::New(env);
      if (event.hasShapes()) {
        for (size_t i = 0; i < event.shapes().size(); ++i) {
          shapes.Set(static_cast<uint32_t>(i), numbers(env, event.shapes()[i]));
        }
      }
      entry.Set("shapes", shapes);
      Napi::Array dtypes = Napi::Array::New(env);
      if (event.hasTypes()) {
        for (size_t i = 0; i < event.dtypes().size(); ++i) {
          dtypes.Set(static_cast<uint32_t>(i), event.dtypes()[i]);
        }
      }
      entry.Set("dtypes", dtypes);
      events.Set(count++, entry);
    }
    return events;
  });
}

Napi::Value scope_enter(const Napi::CallbackInfo& info) {
  return guarded(info, "scopeEnter", [&](Environment& environment) -> Napi::Value {
    auto record = std::make_unique<at::RecordFunction>(at::RecordScope::USER_SCOPE);
    if (record->isActive()) record->before(info[0].As<Napi::String>().Utf8Value());
    environment.scopes.push_back(std::move(record));
    return info.Env().Undefined();
  });
}

Napi::Value scope_exit(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  if (!environment.scopes.empty()) environment.scopes.pop_back();
  return info.Env().Undefined();
}

// abandonProfile(): before the process exits, when Kineto's thread-local state goes away unasked.
Napi::Value abandon(const Napi::CallbackInfo& info) {
  abandon_profile(Environment::of(info.Env()));
  return info.Env().Undefined();
}

}  // namespace

void abandon_profile(Environment& environment) {
  if (!environment.profiling) return;
  const auto closing = c10::make_scope_exit([&] { close(environment); });
  environment.scopes.clear();
  try {
    profiler::disableProfiler();
  } catch (const std::exception&) {
    // The environment goes away with or without a record.
  }
}

void export_profiler(Napi::Env env, Napi::Object exports) {
  exports.Set("profilerStart", Napi::Function::New(env, start, "profilerStart"));
  exports.Set("profilerStop", Napi::Function::New(env, stop, "profilerStop"));
  exports.Set("abandonProfile", Napi::Function::New(env, abandon, "abandonProfile"));
  exports.Set("scopeEnter", Napi::Function::New(env, scope_enter, "scopeEnter"));
  exports.Set("scopeExit", Napi::Function::New(env, scope_exit, "scopeExit"));
}

}  // namespace vllm_ops
