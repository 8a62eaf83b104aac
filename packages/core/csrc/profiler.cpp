// SPDX-License-Identifier: Apache-2.0
// The profile of the process. PyTorch's own profiler (Kineto with RecordFunction) records the
// thread that profiles, every dispatched op with its shapes and dtypes, and on devices their
// kernels; our logs (profiler_log.h) record the other threads. Where only tables are wanted, logs
// record every thread, and calls are added up as they fill up (profiler_table.h).

#include <ATen/ops/alias.h>
#include <ATen/ops/empty.h>
#include <c10/util/ScopeExit.h>
#include <dlfcn.h>
#include <kineto/ILoggerObserver.h>
#include <kineto/libkineto.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <set>

#include "call.h"
#include "device.h"
#include "profiler_recording.h"
#include "profiler_table.h"
#include "profiler_values.h"

namespace vllm_ops {
namespace {

namespace profiler = torch::autograd::profiler;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;
using KinetoActivity = torch::profiler::impl::ActivityType;

constexpr int kCalls = 16;
constexpr int kRounds = 8;

// The process has one profile: Kineto has one session, and so have the logs.
struct Session {
  std::mutex mutex;
  std::atomic<bool> running{false};
  // Of the environment that profiles:
  std::unique_ptr<Recording> recording;
  std::optional<QuietAllocator> quiet;
  // The clock of the logs on that of Kineto; null where only tables are wanted.
  std::unique_ptr<c10::ApproximateClockToUnixTimeConverter> clock;
  bool kineto = false;  // it records
  bool device = false;
  Moment start;
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

// Ends Kineto, on the thread that it records.
std::unique_ptr<profiler::ProfilerResult> stop_kineto() {
  session().kineto = false;
  return profiler::disableProfiler();
}

// A profile that could not be started, or that has ended, leaves the session to others.
void close(Environment& environment) {
  Session& all = session();
  environment.scopes.clear();
  environment.profiling = false;
  try {
    if (all.kineto) stop_kineto();
  } catch (const std::exception&) {
    // It goes away with or without a record.
  }
  all.recording.reset();
  all.clock.reset();
  all.quiet.reset();
  tell(false);
  all.running.store(false);
}

// Nanoseconds from one call to the next: the best of some rounds, since any may be interrupted.
template <typename Call>
double period(Call call) {
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t start = nanoseconds();
    for (int i = 0; i < kCalls; ++i) call();
    const double took = static_cast<double>(nanoseconds() - start) / kCalls;
    best = round == 0 ? took : std::min(best, took);
  }
  return best;
}

// `part` is a phase that is in no other.
void open_scope(Environment& environment, uint32_t scope, bool resumed, bool part) {
  const std::string& label = environment.scope_labels[scope];
  if (part) enter_part(label);
  ThreadLog* log = scope_log();
  if (log != nullptr) log->enter_scope(scope, label, resumed);
  environment.scopes.push_back({nullptr, part});
  if (log != nullptr || !environment.profiling) return;
  auto record = std::make_unique<at::RecordFunction>(at::RecordScope::USER_SCOPE);
  if (record->isActive()) record->before(resumed ? "resumed " + label : label);
  environment.scopes.back().record = std::move(record);
}

void close_scope(Environment& environment, uint64_t end) {
  if (environment.scopes.empty()) return;
  const bool part = environment.scopes.back().part;
  if (environment.scopes.back().record == nullptr) {
    ThreadLog* log = scope_log();
    if (log != nullptr) log->exit_scope(end);
  }
  environment.scopes.pop_back();
  if (part) leave_part();
}

// The number of the scopes by which an environment's profiles measure what recording costs.
constexpr uint32_t kCalibrationScope = 0;

uint32_t define_scope(Environment& environment, std::string label) {
  environment.scope_labels.push_back(std::move(label));
  return static_cast<uint32_t>(environment.scope_labels.size() - 1);
}

// What a thread's log becomes where only tables are wanted.
std::unique_ptr<LogSink> make_table() { return std::make_unique<Table>(session().start); }

// Without a GPU, Kineto complains on stderr about the missing GPU; with one, newer releases
// announce each start and end above the level of errors. What a device did not record is a warning
// in the profile. Kineto is told by a variable, which can't be set safely while other threads read
// theirs; what a user has set there is kept.
void silence_kineto(bool device) {
  if (device && libkineto::ERROR + 1 == libkineto::ENUM_COUNT) return;  // errors, and no more
  void* const level = dlsym(RTLD_DEFAULT, "_ZN9libkineto6Logger14severityLevel_E");
  if (level == nullptr || std::getenv("KINETO_LOG_LEVEL") != nullptr) return;
  static_cast<std::atomic_int*>(level)->store(libkineto::ENUM_COUNT);
}

// Starts Kineto on this thread and no other, whatever it is that has to be recorded of them: it
// can't be ended safely while others are in the middle of an op.
void start_kineto(bool shapes, bool memory, bool device) {
  const ProfilerConfig config(ProfilerState::KINETO, shapes, memory);
  std::set<KinetoActivity> activities{KinetoActivity::CPU};
  // Asking the CUDA hooks before the CUDA library is loaded would settle their answer:
  // JavaScript knows its backends.
  if (device) activities.insert(KinetoActivity::CUDA);
  // Kineto calls its client back when it is first started, and complains if that is not on the
  // thread that registered it, which is the one that loaded libtorch.
  if (!libkineto::api().isProfilerRegistered()) {
    libkineto::api().registerClient(libkineto::api().client());
  }
  profiler::prepareProfiler(config, activities);
  silence_kineto(device);
  profiler::enableProfiler(config, activities,
                           {at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
  session().kineto = true;
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
    const bool shapes = asked("shapes"), memory = asked("memory"), all_threads = asked("threads");
    const bool tables = asked("tables");
    if (memory) all.quiet.emplace();
    if (tables) {
      all.start = Moment::now();
      all.recording = std::make_unique<Recording>(all_threads ? Threads::All : Threads::Own, shapes,
                                                  memory, make_table);
    } else {
      all.clock = std::make_unique<c10::ApproximateClockToUnixTimeConverter>();
      start_kineto(shapes, memory, all.device);
      all.recording = std::make_unique<Recording>(all_threads ? Threads::Others : Threads::Lent,
                                                  shapes, false, nullptr);
    }
    open_scope(environment, kCalibrationScope, false, false);
    const double recorded_op = period(call);
    const double recorded_scope = period([&] {
      open_scope(environment, kCalibrationScope, false, false);
      close_scope(environment, ticks());
    });
    close_scope(environment, ticks());
    failed.release();
    tell(true);
    Napi::Object costs = Napi::Object::New(info.Env());
    costs.Set("op", op);
    costs.Set("recordedOp", recorded_op);
    costs.Set("recordedScope", recorded_scope);
    return costs;
  });
}

// profilerStop(): RawEvent[] of src/profiler/raw-event.ts, in nanoseconds since the first event; or
// RawTable[] of src/profiler/raw-table.ts.
Napi::Value stop(const Napi::CallbackInfo& info) {
  return guarded(info, "profilerStop", [&](Environment& environment) -> Napi::Value {
    if (!environment.profiling) throw CodedError("E_PROFILER", "no profile is running");
    const auto closing = c10::make_scope_exit([&] { close(environment); });
    while (!environment.scopes.empty()) close_scope(environment, ticks());
    Session& all = session();
    all.recording->stop();
    if (all.clock == nullptr) return table_objects(info.Env(), *all.recording);
    if (all.device) {
      // Kernels that still run would be missing, of whichever device.
      for (const c10::Device device : devices_in_use()) {
        guard_of(device.type())->synchronizeDevice(device.index());
      }
    }
    const auto result = stop_kineto();
    return event_objects(info.Env(), *result, *all.recording, *all.clock);
  });
}

// scopeDefine(label): the scope's number in this environment.
Napi::Value scope_define(const Napi::CallbackInfo& info) {
  const uint32_t scope =
      define_scope(Environment::of(info.Env()), info[0].As<Napi::String>().Utf8Value());
  return Napi::Number::New(info.Env(), scope);
}

// scopeEnter(code): the scope's number times 4, plus 1 if it goes on (it is no call of its own),
// plus 2 if it is a phase that is in no other.
napi_value scope_enter(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument = nullptr;
  void* data = nullptr;
  uint32_t code = 0;
  napi_get_cb_info(env, info, &count, &argument, nullptr, &data);
  Environment& environment = *static_cast<Environment*>(data);
  if (napi_get_value_uint32(env, argument, &code) == napi_ok &&
      code / 4 < environment.scope_labels.size()) {
    open_scope(environment, code / 4, (code & 1) != 0, (code & 2) != 0);
  }
  return nullptr;
}

napi_value scope_exit(napi_env env, napi_callback_info info) {
  const uint64_t end = ticks();
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  close_scope(*static_cast<Environment*>(data), end);
  return nullptr;
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
  while (!environment.scopes.empty()) close_scope(environment, ticks());
  if (environment.profiling) close(environment);
}

void export_profiler(Napi::Env env, Napi::Object exports) {
  exports.Set("profilerStart", Napi::Function::New(env, start, "profilerStart"));
  exports.Set("profilerStop", Napi::Function::New(env, stop, "profilerStop"));
  exports.Set("abandonProfile", Napi::Function::New(env, abandon, "abandonProfile"));
  exports.Set("watchProfiling", Napi::Function::New(env, watch, "watchProfiling"));
  exports.Set("scopeDefine", Napi::Function::New(env, scope_define, "scopeDefine"));
  export_raw(env, exports, "scopeEnter", scope_enter);
  export_raw(env, exports, "scopeExit", scope_exit);
}

}  // namespace vllm_ops
