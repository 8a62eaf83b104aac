// SPDX-License-Identifier: Apache-2.0
// PyTorch's own profiler (Kineto with RecordFunction): every dispatched op with its shapes and
// dtypes, and on devices their kernels. Module scopes are RecordFunctions of USER_SCOPE that
// JavaScript opens and closes. Where only tables are wanted, calls are added up as they happen
// (profiler_table.h) and Kineto is left alone.

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/alias.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>
#include <c10/util/ScopeExit.h>
#include <c10/util/Type.h>
#include <kineto/ActivityType.h>
#include <time.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>

#include "call.h"
#include "profiler_table.h"

namespace vllm_ops {
namespace {

namespace profiler = torch::autograd::profiler;
using libkineto::ActivityType;
using torch::profiler::impl::ExperimentalConfig;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;
using KinetoActivity = torch::profiler::impl::ActivityType;

// Labels of the scopes that calibrate() opens; src/profiler/calibration.ts leaves them out.
constexpr const char* kCalibration = "vllm-ops: calibration";
constexpr int kCalls = 16;
constexpr int kRounds = 8;

// The process has one profile: Kineto has one session, and so has the table.
struct Session {
  std::mutex mutex;
  std::atomic<bool> running{false};
  std::unique_ptr<TableSession> table;  // null while Kineto records
  std::optional<MemoryReports> memory;
  bool device = false;
  std::set<uint8_t*> flags;  // one of every environment: 1 while a profile is running
};

// Workers end after everything static is gone: leaked on purpose.
Session& session() {
  static Session* const the_session = new Session;
  return *the_session;
}

void tell(bool running) {
  Session& all = session();
  const std::lock_guard<std::mutex> guard(all.mutex);
  for (uint8_t* flag : all.flags) *flag = running ? 1 : 0;
}

// A profile that could not be started, or that has ended, leaves the session to others.
void close(Environment& environment) {
  environment.scopes.clear();
  environment.profiling = false;
  session().memory.reset();
  session().table.reset();
  tell(false);
  session().running.store(false);
}

double nanoseconds() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// Nanoseconds from one call to the next: the best of some rounds, since any may be interrupted.
template <typename Call>
double period(Call call) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const double start = nanoseconds();
    for (int i = 0; i < kCalls; ++i) call();
    const double took = (nanoseconds() - start) / kCalls;
    best = round == 0 ? took : std::min(best, took);
  }
  return best;
}

void open_scope(Environment& environment, const std::string& label, bool resumed, bool part) {
  if (table_recording()) {
    table_enter(label, resumed, part);
    environment.scopes.emplace_back();
    return;
  }
  auto record = std::make_unique<at::RecordFunction>(at::RecordScope::USER_SCOPE);
  if (record->isActive()) record->before(resumed ? "resumed " + label : label);
  environment.scopes.push_back(std::move(record));
}

void close_scope(Environment& environment) {
  if (environment.scopes.empty()) return;
  // Empty where the table records it.
  if (environment.scopes.back() == nullptr) table_exit();
  environment.scopes.pop_back();
}

// profilerStart({ tables, shapes, memory, threads, device }): `device` is whether a backend with
// kernels to record is in use. Returns { op, recordedOp, recordedScope }: nanoseconds that a small
// op takes unrecorded, and that it and an empty scope take while recorded.
Napi::Value start(const Napi::CallbackInfo& info) {
  return guarded(info, "profilerStart", [&](Environment& environment) -> Napi::Value {
    const Napi::Object options = info[0].As<Napi::Object>();
    const auto asked = [&](const char* name) { return options.Get(name).ToBoolean().Value(); };
    Session& all = session();
    if (all.running.exchange(true)) {
      throw CodedError("E_PROFILER", "a profile is running in this process already");
    }
    environment.profiling = true;
    auto failed = c10::make_scope_exit([&] { close(environment); });
    const at::Tensor tensor = at::empty({1});
    const auto call = [&] { at::alias(tensor); };
    const double op = period(call);
    all.device = asked("device");
    if (asked("tables")) {
      all.table =
          std::make_unique<TableSession>(asked("shapes"), asked("threads"), asked("memory"));
    } else {
      // Kineto talks on stderr, without a GPU about the missing GPU, and reads this when it is
      // first started.
      if (!all.device) setenv("KINETO_LOG_LEVEL", "99", 0);
      ExperimentalConfig experimental;
      experimental.profile_all_threads = asked("threads");
      const ProfilerConfig config(ProfilerState::KINETO, asked("shapes"), asked("memory"), false,
                                  false, false, experimental);
      std::set<KinetoActivity> activities{KinetoActivity::CPU};
      // Asking the CUDA hooks before the CUDA library is loaded would settle their answer:
      // JavaScript knows its backends.
      if (all.device) activities.insert(KinetoActivity::CUDA);
      profiler::prepareProfiler(config, activities);
      profiler::enableProfiler(config, activities,
                               {at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
      if (asked("memory")) all.memory.emplace(std::make_shared<ForwardedMemory>());
    }
    open_scope(environment, kCalibration, false, false);
    const double recorded_op = period(call);
    const double recorded_scope = period([&] {
      open_scope(environment, kCalibration, false, false);
      close_scope(environment);
    });
    close_scope(environment);
    failed.release();
    tell(true);
    Napi::Object costs = Napi::Object::New(info.Env());
    costs.Set("op", op);
    costs.Set("recordedOp", recorded_op);
    costs.Set("recordedScope", recorded_scope);
    return costs;
  });
}

Napi::Array numbers(Napi::Env env, const std::vector<int64_t>& sizes) {
  Napi::Array array = Napi::Array::New(env, sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), static_cast<double>(sizes[i]));
  }
  return array;
}

template <typename Shapes>
Napi::Array shapes_of(Napi::Env env, const Shapes& shapes) {
  Napi::Array array = Napi::Array::New(env, shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), numbers(env, shapes[i]));
  }
  return array;
}

template <typename Texts>
Napi::Array texts_of(Napi::Env env, const Texts& texts) {
  Napi::Array array = Napi::Array::New(env, texts.size());
  for (size_t i = 0; i < texts.size(); ++i) array.Set(static_cast<uint32_t>(i), texts[i]);
  return array;
}

// The numbers among an op's arguments, 0 for what is none; empty without any.
Napi::Array scalars_of(Napi::Env env, const profiler::KinetoEvent& event) {
  Napi::Array array = Napi::Array::New(env);
  if (!event.hasConcreteInputs()) return array;
  bool any = false;
  const auto inputs = event.concreteInputs();
  for (size_t i = 0; i < inputs.size(); ++i) {
    const c10::IValue& input = inputs[i];
    any = any || input.isInt() || input.isDouble() || input.isBool();
    array.Set(static_cast<uint32_t>(i), input.isInt()      ? static_cast<double>(input.toInt())
                                        : input.isDouble() ? input.toDouble()
                                        : input.isBool()   ? static_cast<double>(input.toBool())
                                                           : 0.0);
  }
  return any ? array : Napi::Array::New(env);
}

// The kind of an event in raw-event.ts; null for what is no event of its own, as the device's copy
// of a scope.
const char* kind_of(const profiler::KinetoEvent& event) {
  if (event.name() == "[memory]") return "memory";
  switch (static_cast<ActivityType>(event.activityType())) {
    case ActivityType::CPU_OP:
    case ActivityType::USER_ANNOTATION:
      return event.scope() == static_cast<uint8_t>(at::RecordScope::USER_SCOPE) ? "scope" : "op";
    case ActivityType::CONCURRENT_KERNEL:
    case ActivityType::GPU_MEMCPY:
    case ActivityType::GPU_MEMSET:
      return "kernel";
    case ActivityType::CUDA_RUNTIME:
    case ActivityType::CUDA_DRIVER:
    case ActivityType::XPU_RUNTIME:
    case ActivityType::PRIVATEUSE1_RUNTIME:
    case ActivityType::PRIVATEUSE1_DRIVER:
      return "runtime";
    default:
      return nullptr;
  }
}

Napi::Object event_object(Napi::Env env, const profiler::KinetoEvent& event, const char* kind,
                          uint64_t origin) {
  Napi::Object entry = Napi::Object::New(env);
  const bool cpu = event.deviceType() == c10::DeviceType::CPU;
  entry.Set("name", c10::demangle(event.name().c_str()));
  entry.Set("start", static_cast<double>(event.startNs() - origin));
  entry.Set("end", static_cast<double>(static_cast<int64_t>(event.endNs() - origin)));
  entry.Set("thread", static_cast<double>(event.startThreadId()));
  entry.Set("device", cpu ? "cpu"
                          : c10::DeviceTypeName(event.deviceType(), true) + ":" +
                                std::to_string(event.deviceIndex()));
  entry.Set("kind", kind);
  entry.Set("correlation", static_cast<double>(event.correlationId()));
  entry.Set("linked", static_cast<double>(event.linkedCorrelationId()));
  entry.Set("stream", static_cast<double>(event.deviceResourceId()));
  entry.Set("bytes", static_cast<double>(event.nBytes()));
  entry.Set("shapes", event.hasShapes() ? shapes_of(env, event.shapes()) : Napi::Array::New(env));
  entry.Set("dtypes", event.hasTypes() ? texts_of(env, event.dtypes()) : Napi::Array::New(env));
  entry.Set("scalars", scalars_of(env, event));
  return entry;
}

Napi::Value kineto_events(Napi::Env env) {
  session().memory.reset();
  const std::unique_ptr<profiler::ProfilerResult> result = profiler::disableProfiler();
  Napi::Array events = Napi::Array::New(env);
  uint64_t origin = UINT64_MAX;
  for (const profiler::KinetoEvent& event : result->events()) {
    origin = std::min(origin, event.startNs());
  }
  uint32_t count = 0;
  for (const profiler::KinetoEvent& event : result->events()) {
    const char* kind = kind_of(event);
    if (kind != nullptr) events.Set(count++, event_object(env, event, kind, origin));
  }
  return events;
}

Napi::Object node_object(Napi::Env env, const TableNode& node, const Signature& signature) {
  Napi::Object entry = Napi::Object::New(env);
  entry.Set("kind", node.kind == NodeKind::Op ? "op" : "scope");
  entry.Set("parent", node.parent);
  entry.Set("name", node.name);
  entry.Set("calls", static_cast<double>(node.calls));
  entry.Set("total", static_cast<double>(node.total));
  entry.Set("children", static_cast<double>(node.children));
  entry.Set("least", static_cast<double>(node.least == UINT64_MAX ? 0 : node.least));
  entry.Set("most", static_cast<double>(node.most));
  entry.Set("opsInside", static_cast<double>(node.ops_inside));
  entry.Set("scopesInside", static_cast<double>(node.scopes_inside));
  entry.Set("allocated", static_cast<double>(node.allocated));
  entry.Set("peak", static_cast<double>(node.peak));
  entry.Set("shapes", shapes_of(env, signature.shapes));
  entry.Set("dtypes", texts_of(env, signature.dtypes));
  Napi::Array scalars = Napi::Array::New(env, node.scalars.size());
  for (uint32_t i = 0; i < node.scalars.size(); ++i) scalars.Set(i, node.scalars[i]);
  entry.Set("scalars", scalars);
  Napi::Array histogram = Napi::Array::New(env, node.histogram.buckets().size() * 2);
  uint32_t at = 0;
  for (const auto& [bucket, count] : node.histogram.buckets()) {
    histogram.Set(at++, bucket);
    histogram.Set(at++, count);
  }
  entry.Set("histogram", histogram);
  return entry;
}

Napi::Value tables(Napi::Env env, TableSession& table) {
  Napi::Array threads = Napi::Array::New(env);
  for (const ThreadTable* thread : table.stop()) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("thread", static_cast<double>(thread->thread));
    Napi::Array nodes = Napi::Array::New(env, thread->nodes.size());
    uint32_t at = 0;
    for (const TableNode& node : thread->nodes) {
      nodes.Set(at++, node_object(env, node, thread->signatures[node.signature]));
    }
    entry.Set("nodes", nodes);
    threads.Set(threads.Length(), entry);
  }
  return threads;
}

// profilerStop(): RawEvent[] of src/profiler/raw-event.ts, in nanoseconds since the first event; or
// RawTable[] of src/profiler/raw-table.ts.
Napi::Value stop(const Napi::CallbackInfo& info) {
  return guarded(info, "profilerStop", [&](Environment& environment) -> Napi::Value {
    if (!environment.profiling) throw CodedError("E_PROFILER", "no profile is running");
    const auto closing = c10::make_scope_exit([&] { close(environment); });
    while (!environment.scopes.empty()) close_scope(environment);
    Session& all = session();
    if (all.table != nullptr) return tables(info.Env(), *all.table);
    // Kernels that still run would be missing.
    if (all.device) {
      at::accelerator::synchronizeDevice(at::accelerator::getDeviceIndex());
    }
    return kineto_events(info.Env());
  });
}

// scopeDefine(label): the scope's number in this environment.
Napi::Value scope_define(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  environment.scope_labels.push_back(info[0].As<Napi::String>().Utf8Value());
  return Napi::Number::New(info.Env(), static_cast<double>(environment.scope_labels.size() - 1));
}

// scopeEnter(scope, resumed, part): `part` is a phase that is in no other.
Napi::Value scope_enter(const Napi::CallbackInfo& info) {
  return guarded(info, "scopeEnter", [&](Environment& environment) -> Napi::Value {
    const std::string& label =
        environment.scope_labels.at(info[0].As<Napi::Number>().Uint32Value());
    open_scope(environment, label, info[1].ToBoolean().Value(), info[2].ToBoolean().Value());
    return info.Env().Undefined();
  });
}

Napi::Value scope_exit(const Napi::CallbackInfo& info) {
  close_scope(Environment::of(info.Env()));
  return info.Env().Undefined();
}

// watchProfiling(flag: Uint8Array): its first byte is 1 while any thread's profile is running.
Napi::Value watch(const Napi::CallbackInfo& info) {
  Environment& environment = Environment::of(info.Env());
  Napi::Uint8Array flag = info[0].As<Napi::Uint8Array>();
  napi_create_reference(info.Env(), flag, 1, &environment.profiling_flag_owner);
  environment.profiling_flag = flag.Data();
  Session& all = session();
  const std::lock_guard<std::mutex> guard(all.mutex);
  all.flags.insert(environment.profiling_flag);
  *environment.profiling_flag = all.running.load() ? 1 : 0;
  return info.Env().Undefined();
}

// abandonProfile(): before the process exits, when Kineto's thread-local state goes away unasked.
Napi::Value abandon(const Napi::CallbackInfo& info) {
  abandon_profile(Environment::of(info.Env()));
  return info.Env().Undefined();
}

}  // namespace

void abandon_profile(Environment& environment) {
  {
    Session& all = session();
    const std::lock_guard<std::mutex> guard(all.mutex);
    if (environment.profiling_flag != nullptr) all.flags.erase(environment.profiling_flag);
    environment.profiling_flag = nullptr;
  }
  while (!environment.scopes.empty()) close_scope(environment);
  if (!environment.profiling) return;
  const auto closing = c10::make_scope_exit([&] { close(environment); });
  if (session().table != nullptr) return;
  session().memory.reset();
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
  exports.Set("watchProfiling", Napi::Function::New(env, watch, "watchProfiling"));
  exports.Set("scopeDefine", Napi::Function::New(env, scope_define, "scopeDefine"));
  exports.Set("scopeEnter", Napi::Function::New(env, scope_enter, "scopeEnter"));
  exports.Set("scopeExit", Napi::Function::New(env, scope_exit, "scopeExit"));
}

}  // namespace vllm_ops
