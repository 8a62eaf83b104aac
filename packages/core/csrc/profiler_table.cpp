// SPDX-License-Identifier: Apache-2.0
#include "profiler_table.h"

#include <algorithm>
#include <bit>

namespace vllm_ops {
namespace {

// Signatures of one op under one caller; further ones are added up without types and shapes, so
// that sizes that grow with every step don't make the table grow without bound.
constexpr uint32_t kVariants = 256;
// Buckets an octave has, as a power of two.
constexpr int kBits = 5;

}  // namespace

void Histogram::add(uint64_t nanoseconds) {
  const uint64_t value = std::max<uint64_t>(nanoseconds, 1);
  const int exponent = std::bit_width(value) - 1;
  const uint64_t fraction =
      exponent >= kBits ? value >> (exponent - kBits) : value << (kBits - exponent);
  const auto bucket = static_cast<uint32_t>((exponent << kBits) + (fraction & ((1 << kBits) - 1)));
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i].first != bucket) continue;
    ++buckets_[i].second;
    if (i > 0 && buckets_[i].second > buckets_[i - 1].second) {
      std::swap(buckets_[i], buckets_[i - 1]);
    }
    return;
  }
  buckets_.emplace_back(bucket, 1);
}

size_t Table::KeyHash::operator()(const Key& key) const {
  uint64_t hash = (static_cast<uint64_t>(key.parent) << 32 | key.name) * 0x9e3779b97f4a7c15u;
  hash = (hash ^ (hash >> 29) ^ (static_cast<uint64_t>(key.signature) << 1 | key.scope)) *
         0xbf58476d1ce4e5b9u;
  return hash ^ (hash >> 32);
}

Table::Table(Moment start) : start_(start) { nodes_.emplace_back(); }

void Table::take(const ThreadLog& log, std::span<const uint64_t> words) {
  tick_ = start_.tick();
  if (work_name_ == 0) {
    const auto& names = log.names();
    const auto found = std::find(names.begin(), names.end(), kWorkedOut);
    if (found != names.end()) work_name_ = static_cast<uint32_t>(found - names.begin());
  }
  LogReader reader(words);
  Entry entry;
  while (reader.next(entry)) {
    switch (entry.kind) {
      case EntryKind::Enter:
        enter(entry);
        break;
      case EntryKind::Exit:
        if (!stack_.empty()) close(entry.ticks);
        break;
      case EntryKind::Memory:
        if (stack_.empty()) break;
        held_ += entry.bytes;
        stack_.back().most_held = std::max(stack_.back().most_held, held_);
        if (entry.bytes > 0) nodes_[stack_.back().node].allocated += entry.bytes;
        break;
      case EntryKind::Part:
        change_part(entry);
        break;
    }
  }
}

void Table::finish() {
  const uint64_t end = ticks();
  while (!stack_.empty()) close(end);
}

uint32_t Table::child(const Key& key) {
  // Programs repeat themselves.
  const uint32_t guess = nodes_[last_].next;
  const TableNode& guessed = nodes_[guess];
  uint32_t node = guess;
  if (guess == 0 || Key{guessed.parent, guessed.name, guessed.signature, guessed.scope} != key) {
    const auto known = index_.find(key);
    if (known == index_.end() && key.signature != 0) {
      if (nodes_[key.parent].variants == kVariants) return child({key.parent, key.name, 0, false});
      ++nodes_[key.parent].variants;
    }
    node = known != index_.end() ? known->second : static_cast<uint32_t>(nodes_.size());
    if (known == index_.end()) {
      TableNode& added = nodes_.emplace_back();
      added.scope = key.scope;
      added.parent = key.parent;
      added.name = key.name;
      added.signature = key.signature;
      index_.emplace(key, node);
    }
    nodes_[last_].next = node;
  }
  last_ = node;
  return node;
}

void Table::enter(const Entry& entry) {
  const uint32_t parent = stack_.empty() ? part_ : stack_.back().node;
  const uint32_t node = child({parent, entry.name, entry.signature, entry.scope});
  std::vector<double>& sums = nodes_[node].scalars;
  if (entry.scalar_count > sums.size()) sums.resize(entry.scalar_count);
  for (uint32_t i = 0; i < entry.scalar_count; ++i) sums[i] += entry.scalar(i);
  open(node, entry.ticks, !entry.resumed);
}

void Table::open(uint32_t node, uint64_t start, bool counts) {
  TableNode& entry = nodes_[node];
  if (counts) ++entry.calls;
  if (entry.name != work_name_) {
    TableNode& parent = nodes_[entry.parent];
    ++(entry.scope ? parent.scopes_inside : parent.ops_inside);
  }
  stack_.push_back({node, counts, start, 0, 0, held_, held_});
}

void Table::close(uint64_t end) {
  const Frame frame = stack_.back();
  stack_.pop_back();
  const double took = end > frame.start ? static_cast<double>(end - frame.start) * tick_ : 0;
  TableNode& node = nodes_[frame.node];
  node.total += took;
  node.children += frame.children;
  if (frame.counts) {
    const double own = std::max(0.0, took - frame.work);
    node.least = node.calls == 1 ? own : std::min(node.least, own);
    node.most = std::max(node.most, own);
    node.histogram.add(static_cast<uint64_t>(own));
  }
  node.peak = std::max(node.peak, frame.most_held - frame.held);
  if (stack_.empty()) return;
  Frame& outer = stack_.back();
  outer.children += took;
  outer.work += node.name == work_name_ && work_name_ != 0 ? took : frame.work;
  outer.most_held = std::max(outer.most_held, frame.most_held);
}

// What is open goes on under the phase that the profile has come into.
void Table::change_part(const Entry& entry) {
  const std::vector<Frame> open_before = stack_;
  while (!stack_.empty()) close(entry.ticks);
  part_ = entry.name == 0 ? 0 : child({0, entry.name, 0, true});
  for (const Frame& frame : open_before) {
    const TableNode& node = nodes_[frame.node];
    const uint32_t parent = stack_.empty() ? part_ : stack_.back().node;
    open(child({parent, node.name, node.signature, node.scope}), entry.ticks, false);
  }
}

}  // namespace vllm_ops
