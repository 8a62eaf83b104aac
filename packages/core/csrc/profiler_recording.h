// SPDX-License-Identifier: Apache-2.0
// Which threads of the process keep logs, and from when to when.

#pragma once

#include <ATen/record_function.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "profiler_log.h"
#include "profiler_memory.h"

namespace vllm_ops {

// Which threads a recording is about.
enum class Threads : uint8_t {
  All,
  Own,     // the calling one, and what it has others call
  Others,  // all but the calling one, which somebody else records
  Lent     // only what the calling one has others call
};

// Records from its making to stop(). There is one at a time in the process.
class Recording {
 public:
  using MakeSink = std::unique_ptr<LogSink> (*)();
  // `shapes`: note types and sizes. `memory`: what the calling thread allocates. `make_sink` gives
  // every thread's log one, or is null.
  Recording(Threads threads, bool shapes, bool memory, MakeSink make_sink);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  void stop();
  // After stop(): what was recorded; it lives as long as the recording.
  const std::vector<std::shared_ptr<ThreadLog>>& logs() const;

 private:
  bool stopped_ = false;
  at::CallbackHandle callback_ = at::INVALID_CALLBACK_HANDLE;
  std::optional<MemoryReports> memory_;
};

// The log of this thread, for its scopes; null where it is not recorded so.
ThreadLog* scope_log();
// The profile comes into a phase, or leaves it: what other threads run is kept apart by it.
void enter_part(const std::string& label);
void leave_part();
// The phase by its number, 0 for none, and its label.
uint32_t current_part();
std::string part_label(uint32_t number);

// How what this thread has another one call is recorded.
enum class Lending : uint8_t {
  AsHere,   // by what at::ThreadLocalState carries over
  ByAll,    // by the recording of all threads
  ByItself  // by a callback of its own
};
Lending lending();
// Takes up what `lending()` said on the thread that the state at hand was taken from, within an
// at::ThreadLocalStateGuard. Kineto, which the state would carry over, must not hear of other
// threads: it can't be ended while one is in the middle of an op.
void take_up(Lending lending);

}  // namespace vllm_ops
