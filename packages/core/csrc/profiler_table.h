// SPDX-License-Identifier: Apache-2.0
// The profiler's recording mode that keeps no events: every call is added, as it ends, to a tree
// of (caller, name, types and shapes), with its time, spread and memory. Its size is that of the
// program, not of the run.

#pragma once

#include <ATen/record_function.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "profiler_memory.h"

namespace vllm_ops {

// Counts durations by logarithm: 32 buckets an octave, those of src/profiler/histogram.ts.
class Histogram {
 public:
  void add(uint64_t nanoseconds);
  const std::vector<std::pair<uint32_t, uint32_t>>& buckets() const { return buckets_; }

 private:
  std::vector<std::pair<uint32_t, uint32_t>> buckets_;  // (bucket, count), in order of appearance
};

// The types and sizes of a call's arguments, as Kineto writes them down.
struct Signature {
  std::vector<std::string> dtypes;  // PyTorch's C++ names, "" for what has none
  std::vector<std::vector<int64_t>> shapes;
};

enum class NodeKind : uint8_t { Root, Op, Scope };

struct TableNode {
  NodeKind kind = NodeKind::Root;
  uint32_t parent = 0;
  uint32_t signature = 0;  // 0: none was recorded
  std::string name;
  uint64_t calls = 0;
  uint64_t total = 0;     // nanoseconds
  uint64_t children = 0;  // nanoseconds of what is directly inside
  uint64_t least = UINT64_MAX;
  uint64_t most = 0;
  uint64_t ops_inside = 0;  // calls directly inside, for what recording them cost
  uint64_t scopes_inside = 0;
  int64_t allocated = 0;        // bytes, directly inside
  int64_t peak = 0;             // most bytes that a call held more than at its start
  uint32_t variants = 0;        // signatures of the children, bounded by kVariants
  std::vector<double> scalars;  // sums over calls of the numbers among the arguments
  Histogram histogram;
};

// What one thread ran. Only the profile that owns it reads it, after it was closed.
struct ThreadTable {
  uint64_t thread = 0;
  std::vector<TableNode> nodes;  // the first is the root
  std::vector<Signature> signatures;
};

class TableSession {
 public:
  // `shapes`: keep calls of different types and shapes apart. `all_threads`: record every thread.
  // `memory`: count what the calling thread allocates.
  TableSession(bool shapes, bool all_threads, bool memory);
  ~TableSession();
  TableSession(const TableSession&) = delete;
  TableSession& operator=(const TableSession&) = delete;

  // Ends the recording; what is still open ends now. The tables live as long as the session.
  std::vector<const ThreadTable*> stop();

 private:
  bool stopped_ = false;
  at::CallbackHandle callback_ = at::INVALID_CALLBACK_HANDLE;
  std::optional<MemoryReports> memory_;
};

// Whether a session is recording.
bool table_recording();
// A scope of this thread opens or closes; `resumed` scopes don't count as calls. `part` marks a
// phase: what other threads run meanwhile is kept under its name.
void table_enter(const std::string& label, bool resumed, bool part);
void table_exit();

}  // namespace vllm_ops
