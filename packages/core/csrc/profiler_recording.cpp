// SPDX-License-Identifier: Apache-2.0
#include "profiler_recording.h"

#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <atomic>
#include <mutex>

namespace vllm_ops {
namespace {

// Odd while recording. What a thread noted under another number is of the past.
constinit std::atomic<uint64_t> generation{0};
// What the recording is about, and whether it notes types and sizes.
constinit std::atomic<Threads> recorded{Threads::All};
constinit std::atomic<bool> shapes_noted{true};
// The phase that the profile is in, as a number of State::parts plus 1.
constinit std::atomic<uint32_t> part{0};

struct State {
  std::mutex mutex;
  std::vector<std::shared_ptr<ThreadLog>> logs;
  std::vector<std::string> parts;
  Recording::MakeSink make_sink = nullptr;
};

// Threads may end after everything static is gone: leaked on purpose.
State& state() {
  static State* const the_state = new State;
  return *the_state;
}

// This thread's place in the recording of a number. Without a constructor and a destructor, since
// those would be looked after at every access.
struct Mine {
  uint64_t generation;
  ThreadLog* log;  // null on a thread that is left out
  bool owner;
  bool over;  // the thread ends
};
constinit thread_local Mine mine{};

// Holds the log too, since a recording may end and another begin while this thread appends.
struct Keeper {
  std::shared_ptr<ThreadLog> log;
  ~Keeper() { mine = {0, nullptr, false, true}; }
};
thread_local Keeper keeper;

// Gives this thread its place in the recording of this number: a log, or none.
ThreadLog* join(uint64_t wanted, bool owner) {
  if (mine.over) return nullptr;
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  if (generation.load(std::memory_order_relaxed) != wanted) return nullptr;
  keeper.log.reset();
  const Threads threads = recorded.load(std::memory_order_relaxed);
  if (!owner || threads == Threads::All || threads == Threads::Own) {
    keeper.log = std::make_shared<ThreadLog>(all.make_sink == nullptr ? nullptr : all.make_sink(),
                                             shapes_noted.load(std::memory_order_relaxed), owner);
    all.logs.push_back(keeper.log);
  }
  mine = {wanted, keeper.log.get(), owner, false};
  return mine.log;
}

// This thread's log; null while nothing records.
ThreadLog* log_of_op() {
  const uint64_t now = generation.load(std::memory_order_acquire);
  if (mine.generation == now) return mine.log;
  return (now & 1) == 0 ? nullptr : join(now, false);
}

std::unique_ptr<at::ObserverContext> enter_op(const at::RecordFunction& call) {
  ThreadLog* log = log_of_op();
  if (log != nullptr) log->enter_op(call);
  return nullptr;
}

void exit_op(const at::RecordFunction& call, at::ObserverContext*) {
  const uint64_t end = ticks();
  // A call that began before the recording ends without it.
  if (mine.log == nullptr || mine.generation != generation.load(std::memory_order_acquire)) return;
  mine.log->exit_op(call, end);
}

at::RecordFunctionCallback callback() {
  at::RecordFunctionCallback result(enter_op, exit_op);
  result.needsInputs(shapes_noted.load(std::memory_order_relaxed))
      .scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
  return result;
}

// Receives what the allocators report on the thread that profiles.
class LoggedMemory : public ThreadMemory {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    if (mine.log == nullptr || mine.generation != generation.load(std::memory_order_acquire)) {
      return;
    }
    mine.log->memory(size);
  }
};

}  // namespace

Recording::Recording(Threads threads, bool shapes, bool memory, MakeSink make_sink) {
  State& all = state();
  uint64_t number = 0;
  {
    const std::lock_guard<std::mutex> guard(all.mutex);
    all.logs.clear();
    all.parts.clear();
    recorded.store(threads, std::memory_order_relaxed);
    shapes_noted.store(shapes, std::memory_order_relaxed);
    all.make_sink = make_sink;
    part.store(0, std::memory_order_relaxed);
    number = generation.fetch_add(1, std::memory_order_release) + 1;
  }
  join(number, true);
  if (threads == Threads::All || threads == Threads::Others) {
    callback_ = at::addGlobalCallback(callback());
  } else if (threads == Threads::Own) {
    callback_ = at::addThreadLocalCallback(callback());
  }
  if (memory) memory_.emplace(std::make_shared<LoggedMemory>());
}

void Recording::stop() {
  if (stopped_) return;
  stopped_ = true;
  if (callback_ != at::INVALID_CALLBACK_HANDLE) at::removeCallback(callback_);
  memory_.reset();
  State& all = state();
  {
    const std::lock_guard<std::mutex> guard(all.mutex);
    generation.fetch_add(1, std::memory_order_release);
  }
  for (const auto& log : all.logs) log->close();
}

Recording::~Recording() {
  stop();
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  for (const auto& log : all.logs) log->clear();
  all.logs.clear();
}

const std::vector<std::shared_ptr<ThreadLog>>& Recording::logs() const { return state().logs; }

ThreadLog* scope_log() {
  const uint64_t now = generation.load(std::memory_order_acquire);
  if (mine.generation == now) return mine.log;
  const Threads threads = recorded.load(std::memory_order_relaxed);
  const bool everyone = threads == Threads::All || threads == Threads::Others;
  return (now & 1) == 0 || !everyone ? nullptr : join(now, false);
}

void enter_part(const std::string& label) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  const auto known = std::find(all.parts.begin(), all.parts.end(), label);
  const auto number = static_cast<uint32_t>(known - all.parts.begin()) + 1;
  if (known == all.parts.end()) all.parts.push_back(label);
  part.store(number, std::memory_order_relaxed);
}

uint32_t current_part() { return part.load(std::memory_order_relaxed); }

std::string part_label(uint32_t number) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  return number > 0 && number <= all.parts.size() ? all.parts[number - 1] : "";
}

void leave_part() { part.store(0, std::memory_order_relaxed); }

Lending lending() {
  if (!mine.owner || mine.generation != generation.load(std::memory_order_acquire)) {
    return Lending::AsHere;
  }
  switch (recorded.load(std::memory_order_relaxed)) {
    case Threads::Others:
      return Lending::ByAll;
    case Threads::Lent:
      return Lending::ByItself;
    default:
      return Lending::AsHere;
  }
}

void take_up(Lending lending) {
  if (lending == Lending::AsHere) return;
  at::set_record_function_tls_({});
  c10::ThreadLocalDebugInfo::_forceCurrentDebugInfo(nullptr);
  if (lending == Lending::ByItself) at::addThreadLocalCallback(callback());
}

}  // namespace vllm_ops
