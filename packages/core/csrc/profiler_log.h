// SPDX-License-Identifier: Apache-2.0
// What the threads of the process run, as it runs: every op that PyTorch's RecordFunction reports
// and every scope that JavaScript opens is a few words that its thread appends to a log of its own.
// Nothing is allocated, hashed by name, locked or converted at that time. What a log says is worked
// out later: whenever it is full (profiler_table.h), or at the end (profiler_values.h).

#pragma once

#include <ATen/record_function.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "profiler_clock.h"

namespace vllm_ops {

// The types and sizes of a call's arguments, as Kineto writes them down.
struct Signature {
  std::vector<std::string> dtypes;  // PyTorch's C++ names, "" for what has none
  std::vector<std::vector<int64_t>> shapes;
};

enum class EntryKind : uint8_t {
  Enter,   // an op or a scope begins
  Exit,    // what began last ends
  Memory,  // memory is allocated or given back
  Part     // the profile has come into another phase
};

// One entry of a log. On paper: a word of kind, flags and numbers, then the time, then the scalars;
// the end of a call is one word.
struct Entry {
  EntryKind kind = EntryKind::Enter;
  bool scope = false;
  bool resumed = false;    // goes on: not a call of its own
  uint32_t name = 0;       // of ThreadLog::names; a phase's, or 0 for none
  uint32_t signature = 0;  // of ThreadLog::signatures; 0: none was recorded
  uint64_t ticks = 0;
  int64_t bytes = 0;
  const uint64_t* scalars = nullptr;  // the numbers among the arguments, 0 for what is none
  uint32_t scalar_count = 0;

  double scalar(uint32_t i) const { return std::bit_cast<double>(scalars[i]); }
};

// Reads the entries of a piece of a log.
class LogReader {
 public:
  explicit LogReader(std::span<const uint64_t> words)
      : at_(words.data()), end_(words.data() + words.size()) {}
  bool next(Entry& entry);

 private:
  const uint64_t* at_;
  const uint64_t* end_;
};

class ThreadLog;

// Takes a piece of a log that is full, on the thread that wrote it; the last one at the end.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual void take(const ThreadLog& log, std::span<const uint64_t> words) = 0;
};

// The log of one thread. Its thread alone appends; whoever ends the recording closes it and then
// reads what had been published until then.
class ThreadLog {
 public:
  // Without a sink every piece is kept.
  ThreadLog(std::unique_ptr<LogSink> sink, bool shapes, bool owner);

  void enter_op(const at::RecordFunction& call);
  void exit_op(const at::RecordFunction& call, uint64_t end);
  // `label` belongs to the scope's number in the environment of the thread.
  void enter_scope(uint32_t scope, const std::string& label, bool resumed);
  void exit_scope(uint64_t end);
  void memory(int64_t bytes);

  // Closes it for good: from now on nothing is appended, and the sink has everything.
  void close();
  // Forgets what was recorded. The thread may hold on to it for as long as it lives.
  void clear();

  const uint64_t thread = at::RecordFunction::currentThreadId();

  // For the sink and, after close(), for everyone.
  const std::deque<std::string>& names() const { return names_; }
  const std::deque<Signature>& signatures() const { return signatures_; }
  LogSink* sink() const { return sink_.get(); }
  std::vector<std::span<const uint64_t>> pieces() const;

 private:
  // Room for so many words; null where the log is closed. `at_end`: for the end of a call, behind
  // which the caller notes what making room took.
  uint64_t* reserve(size_t words, bool at_end = false);
  bool turn_over();
  void note_work();
  void publish(size_t words);
  void note_part();
  void append_exit(uint64_t end);
  uint32_t name_of(const char* name);
  uint32_t add_name(const char* name);
  uint32_t signature_of(uint64_t hash, c10::ArrayRef<const c10::IValue> inputs);

  struct Named {
    const char* text = nullptr;   // where it stood
    const char* known = nullptr;  // the log's own
    uint32_t id = 0;
  };
  struct Signed {
    uint64_t hash = 0;
    uint32_t id = 0;
  };

  const std::unique_ptr<LogSink> sink_;
  const bool shapes_;
  const bool owner_;  // the thread that profiles: phases are its own scopes
  std::unique_ptr<uint64_t[]> words_;
  size_t written_ = 0;
  std::atomic<size_t> published_{0};
  uint64_t work_start_ = 0;
  uint64_t work_end_ = 0;  // 0: noted
  std::vector<std::unique_ptr<uint64_t[]>> full_;
  std::vector<size_t> full_sizes_;
  std::vector<const void*> open_;  // the ops that are open, null for scopes
  uint32_t part_ = 0;              // the phase that the log knows of
  std::array<Named, 256> name_cache_{};
  std::array<Signed, 1024> signature_cache_{};
  std::vector<uint32_t> scope_names_;  // by the numbers of scopes; 0: not yet

  // Guards what follows, and the turning over, against the end of the recording.
  std::mutex mutex_;
  bool closed_ = false;
  std::deque<std::string> names_;
  std::unordered_map<std::string, uint32_t> name_ids_;
  std::deque<Signature> signatures_;
  std::unordered_map<uint64_t, uint32_t> signature_ids_;
};

// The label of the scope that stands for the time in which a full log was worked out.
constexpr const char* kWorkedOut = "vllm-ops: recording";

}  // namespace vllm_ops
