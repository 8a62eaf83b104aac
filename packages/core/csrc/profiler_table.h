// SPDX-License-Identifier: Apache-2.0
// The profiler's recording mode that keeps no events: as a thread's log fills up, its calls are
// added to a tree of (caller, name, types and shapes), with their time, spread and memory. Its size
// is that of the program, not of the run.

#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "profiler_log.h"

namespace vllm_ops {

// Counts durations by logarithm: 32 buckets an octave, those of src/profiler/histogram.ts.
class Histogram {
 public:
  void add(uint64_t nanoseconds);
  const std::vector<std::pair<uint32_t, uint32_t>>& buckets() const { return buckets_; }

 private:
  std::vector<std::pair<uint32_t, uint32_t>> buckets_;  // (bucket, count), frequent ones first
};

struct TableNode {
  bool scope = false;
  uint32_t parent = 0;
  uint32_t name = 0;       // of the log's names
  uint32_t signature = 0;  // 0: none was recorded
  uint32_t next = 0;       // the node that was entered after this one, last time
  uint32_t variants = 0;   // signatures of the children, bounded
  uint64_t calls = 0;
  double total = 0;     // nanoseconds
  double children = 0;  // nanoseconds of what is directly inside
  double least = 0;
  double most = 0;
  uint64_t ops_inside = 0;  // calls directly inside, for what recording them cost
  uint64_t scopes_inside = 0;
  int64_t allocated = 0;        // bytes, directly inside
  int64_t peak = 0;             // most bytes that a call held more than at its start
  std::vector<double> scalars;  // sums over calls of the numbers among the arguments
  Histogram histogram;
};

// What one thread ran.
class Table : public LogSink {
 public:
  explicit Table(Moment start);
  void take(const ThreadLog& log, std::span<const uint64_t> words) override;
  // After the last piece: what is still open ends now.
  void finish();
  const std::vector<TableNode>& nodes() const { return nodes_; }  // the first is the root

 private:
  struct Frame {
    uint32_t node;
    bool counts;  // a call, not one that goes on
    uint64_t start;
    double children;
    double work;        // nanoseconds inside in which the log was worked out
    int64_t held;       // bytes held at the start
    int64_t most_held;  // most bytes held since
  };
  struct Key {
    uint32_t parent, name, signature;
    bool scope;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const;
  };

  uint32_t child(const Key& key);
  void enter(const Entry& entry);
  void open(uint32_t node, uint64_t start, bool counts);
  void close(uint64_t end);
  void change_part(const Entry& entry);

  const Moment start_;
  double tick_ = 1;  // nanoseconds
  std::vector<TableNode> nodes_;
  std::unordered_map<Key, uint32_t, KeyHash> index_;
  std::vector<Frame> stack_;
  uint32_t last_ = 0;       // the node that was entered last
  uint32_t part_ = 0;       // the node of the phase that the profile is in, else the root
  uint32_t work_name_ = 0;  // the log's number of kWorkedOut
  int64_t held_ = 0;
};

}  // namespace vllm_ops
