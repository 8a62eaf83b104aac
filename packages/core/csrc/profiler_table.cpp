// SPDX-License-Identifier: Apache-2.0
#include "profiler_table.h"

#include <c10/util/Exception.h>
#include <time.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>

namespace vllm_ops {
namespace {

// Signatures of one op under one caller; further ones are added up without types and shapes, so
// that sizes that grow with every step don't make the table grow without bound.
constexpr uint32_t kVariants = 256;
// Buckets an octave has, as a power of two.
constexpr int kBits = 5;

uint64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1000000000 + static_cast<uint64_t>(time.tv_nsec);
}

// The owner thread writes for nanoseconds at a time, the profile reads once: spinning is cheapest.
class SpinLock {
 public:
  void lock() {
    while (flag_.test_and_set(std::memory_order_acquire)) {
    }
  }
  void unlock() { flag_.clear(std::memory_order_release); }

 private:
  std::atomic_flag flag_ = ATOMIC_FLAG_INIT;
};

struct Frame {
  uint32_t node;
  bool counts;  // a call, not one that goes on
  uint64_t start;
  uint64_t children;
  int64_t held;       // bytes held at the start
  int64_t most_held;  // most bytes held since
};

struct Recorder {
  SpinLock lock;
  bool closed = false;
  ThreadTable table;
  std::vector<Frame> stack;
  size_t part = SIZE_MAX;  // depth of the frame that is the profile's phase
  std::unordered_multimap<uint64_t, uint32_t> index;  // (parent, name, signature) → node
  std::unordered_multimap<uint64_t, uint32_t> signature_index;
  std::vector<std::vector<int64_t>> signature_codes;
  std::vector<int64_t> code;    // of the call at hand
  std::vector<double> scalars;  // of the call at hand
  int64_t held = 0;

  Recorder() {
    table.thread = at::RecordFunction::currentThreadId();
    table.nodes.emplace_back();
    table.signatures.emplace_back();
    signature_codes.emplace_back();
  }

  uint32_t child(uint32_t parent, NodeKind kind, const char* name, uint32_t signature);
  void open(uint32_t node, bool counts);
  void close(uint64_t end);
  uint32_t signature_of(c10::ArrayRef<const c10::IValue> inputs);
};

struct State {
  std::mutex mutex;
  std::vector<std::shared_ptr<Recorder>> recorders;
  std::atomic<uint64_t> generation{0};  // odd while recording
  bool shapes = true;
  std::string part;  // the phase that the profile is in
};

// Threads may end after everything static is gone: leaked on purpose.
State& state() {
  static State* const the_state = new State;
  return *the_state;
}

// Holds the recorder too, since a session may end and another begin while this thread records.
struct Mine {
  std::shared_ptr<Recorder> recorder;
  uint64_t generation = 0;
};
thread_local Mine mine;

// This thread's recorder; null while nothing records.
Recorder* recorder() {
  State& all = state();
  const uint64_t generation = all.generation.load(std::memory_order_acquire);
  if ((generation & 1) == 0) return nullptr;
  if (mine.generation == generation) return mine.recorder.get();
  const std::lock_guard<std::mutex> guard(all.mutex);
  if (all.generation.load(std::memory_order_relaxed) != generation) return nullptr;
  all.recorders.push_back(std::make_shared<Recorder>());
  mine = {all.recorders.back(), generation};
  return mine.recorder.get();
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

uint64_t hash_text(uint64_t hash, const char* text, size_t length) {
  for (; length >= 8; text += 8, length -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, text, 8);
    hash = mix(hash, word);
  }
  uint64_t rest = length;
  for (size_t i = 0; i < length; ++i) rest = (rest << 8) | static_cast<uint8_t>(text[i]);
  return mix(hash, rest);
}

uint32_t Recorder::child(uint32_t parent, NodeKind kind, const char* name, uint32_t signature) {
  const size_t length = std::strlen(name);
  const uint64_t key =
      hash_text(mix(mix(parent, static_cast<uint64_t>(kind)), signature), name, length);
  const auto [from, to] = index.equal_range(key);
  for (auto entry = from; entry != to; ++entry) {
    const TableNode& node = table.nodes[entry->second];
    if (node.parent == parent && node.kind == kind && node.signature == signature &&
        node.name == name) {
      return entry->second;
    }
  }
  if (signature != 0) {
    if (table.nodes[parent].variants == kVariants) return child(parent, kind, name, 0);
    ++table.nodes[parent].variants;
  }
  const auto id = static_cast<uint32_t>(table.nodes.size());
  TableNode& node = table.nodes.emplace_back();
  node.kind = kind;
  node.parent = parent;
  node.signature = signature;
  node.name.assign(name, length);
  index.emplace(key, id);
  return id;
}

void Recorder::open(uint32_t node, bool counts) {
  TableNode& entry = table.nodes[node];
  if (counts) ++entry.calls;
  TableNode& parent = table.nodes[entry.parent];
  ++(entry.kind == NodeKind::Op ? parent.ops_inside : parent.scopes_inside);
  stack.push_back({node, counts, now(), 0, held, held});
}

void Recorder::close(uint64_t end) {
  const Frame frame = stack.back();
  stack.pop_back();
  const uint64_t took = end - frame.start;
  TableNode& node = table.nodes[frame.node];
  node.total += took;
  node.children += frame.children;
  if (frame.counts) {
    node.least = std::min(node.least, took);
    node.most = std::max(node.most, took);
    node.histogram.add(took);
  }
  node.peak = std::max(node.peak, frame.most_held - frame.held);
  if (stack.empty()) return;
  stack.back().children += took;
  stack.back().most_held = std::max(stack.back().most_held, frame.most_held);
}

// Kinds of arguments in a signature's code, beside c10's scalar types, which are smaller.
constexpr int64_t kNothing = 1000;
constexpr int64_t kScalar = 1001;
constexpr int64_t kTensorList = 1002;

// The number of the arguments' types and shapes; their scalars go to `scalars`.
uint32_t Recorder::signature_of(c10::ArrayRef<const c10::IValue> inputs) {
  code.clear();
  scalars.clear();
  bool numbers = false;
  for (const c10::IValue& input : inputs) {
    double number = 0;
    if (input.isTensor()) {
      const at::Tensor& tensor = input.toTensor();
      if (!tensor.defined() || tensor.is_nested()) {
        code.push_back(kNothing);
      } else {
        code.push_back(static_cast<int64_t>(tensor.scalar_type()));
        code.push_back(tensor.dim());
        for (const int64_t size : tensor.sizes()) code.push_back(size);
      }
    } else if (input.isInt() || input.isDouble() || input.isBool()) {
      code.push_back(kScalar);
      number = input.isInt()      ? static_cast<double>(input.toInt())
               : input.isDouble() ? input.toDouble()
                                  : static_cast<double>(input.toBool());
      numbers = true;
    } else {
      code.push_back(input.isTensorList() ? kTensorList : kNothing);
    }
    scalars.push_back(number);
  }
  if (!numbers) scalars.clear();
  uint64_t key = code.size();
  for (const int64_t value : code) key = mix(key, static_cast<uint64_t>(value));
  const auto [from, to] = signature_index.equal_range(key);
  for (auto entry = from; entry != to; ++entry) {
    if (signature_codes[entry->second] == code) return entry->second;
  }
  Signature signature;
  for (size_t at = 0; at < code.size();) {
    const int64_t kind = code[at++];
    std::vector<int64_t> shape;
    if (kind < kNothing) {
      const auto rank = static_cast<size_t>(code[at++]);
      for (size_t i = 0; i < rank; ++i) shape.push_back(code[at++]);
      signature.dtypes.emplace_back(
          c10::scalarTypeToTypeMeta(static_cast<c10::ScalarType>(kind)).name());
    } else {
      signature.dtypes.emplace_back(kind == kScalar       ? "Scalar"
                                    : kind == kTensorList ? "TensorList"
                                                          : "");
    }
    signature.shapes.push_back(std::move(shape));
  }
  const auto id = static_cast<uint32_t>(table.signatures.size());
  table.signatures.push_back(std::move(signature));
  signature_codes.push_back(code);
  signature_index.emplace(key, id);
  return id;
}

// Where a thread that has nothing open puts what it runs: under the phase of the profile.
uint32_t top_of(Recorder& recorder) {
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  return all.part.empty() ? 0 : recorder.child(0, NodeKind::Scope, all.part.c_str(), 0);
}

std::unique_ptr<at::ObserverContext> enter_op(const at::RecordFunction& call) {
  Recorder* mine_now = recorder();
  if (mine_now == nullptr) return nullptr;
  Recorder& self = *mine_now;
  const std::lock_guard<SpinLock> guard(self.lock);
  if (self.closed) return nullptr;
  const bool scope = call.scope() == at::RecordScope::USER_SCOPE;
  const uint32_t parent = self.stack.empty() ? top_of(self) : self.stack.back().node;
  const uint32_t signature = !scope && state().shapes ? self.signature_of(call.inputs()) : 0;
  const uint32_t node =
      self.child(parent, scope ? NodeKind::Scope : NodeKind::Op, call.name(), signature);
  if (signature != 0 && !self.scalars.empty()) {
    std::vector<double>& sums = self.table.nodes[node].scalars;
    sums.resize(self.scalars.size());
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += self.scalars[i];
  }
  self.open(node, true);
  return nullptr;
}

void exit_op(const at::RecordFunction&, at::ObserverContext*) {
  const uint64_t end = now();
  if (mine.generation != state().generation.load(std::memory_order_acquire)) return;
  Recorder& self = *mine.recorder;
  const std::lock_guard<SpinLock> guard(self.lock);
  if (!self.closed && !self.stack.empty()) self.close(end);
}

// Receives what the allocators report on the thread that profiles.
class MemoryState : public ThreadMemory {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    if (mine.generation != state().generation.load(std::memory_order_acquire)) return;
    Recorder& self = *mine.recorder;
    const std::lock_guard<SpinLock> guard(self.lock);
    if (self.closed || self.stack.empty()) return;
    self.held += size;
    Frame& frame = self.stack.back();
    frame.most_held = std::max(frame.most_held, self.held);
    if (size > 0) self.table.nodes[frame.node].allocated += size;
  }
};

}  // namespace

void Histogram::add(uint64_t nanoseconds) {
  const uint64_t value = std::max<uint64_t>(nanoseconds, 1);
  const int exponent = std::bit_width(value) - 1;
  const uint64_t fraction =
      exponent >= kBits ? value >> (exponent - kBits) : value << (kBits - exponent);
  const auto bucket = static_cast<uint32_t>((exponent << kBits) + (fraction & ((1 << kBits) - 1)));
  for (auto& [known, count] : buckets_) {
    if (known == bucket) {
      ++count;
      return;
    }
  }
  buckets_.emplace_back(bucket, 1);
}

TableSession::TableSession(bool shapes, bool all_threads, bool memory) {
  State& all = state();
  {
    const std::lock_guard<std::mutex> guard(all.mutex);
    all.recorders.clear();
    all.shapes = shapes;
    all.part.clear();
    all.generation.fetch_add(1, std::memory_order_release);
  }
  at::RecordFunctionCallback callback(enter_op, exit_op);
  callback.needsInputs(shapes).scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
  callback_ = all_threads ? at::addGlobalCallback(callback) : at::addThreadLocalCallback(callback);
  if (memory) memory_.emplace(std::make_shared<MemoryState>());
}

std::vector<const ThreadTable*> TableSession::stop() {
  State& all = state();
  if (!stopped_) {
    stopped_ = true;
    at::removeCallback(callback_);
    memory_.reset();
    const std::lock_guard<std::mutex> guard(all.mutex);
    all.generation.fetch_add(1, std::memory_order_release);
    const uint64_t end = now();
    for (const auto& each : all.recorders) {
      // Another thread may be in the middle of an op: it waits, then finds itself closed.
      const std::lock_guard<SpinLock> lock(each->lock);
      each->closed = true;
      while (!each->stack.empty()) each->close(end);
    }
  }
  std::vector<const ThreadTable*> tables;
  for (const auto& each : all.recorders) tables.push_back(&each->table);
  return tables;
}

TableSession::~TableSession() {
  stop();
  State& all = state();
  const std::lock_guard<std::mutex> guard(all.mutex);
  for (const auto& each : all.recorders) {
    // The threads keep their recorders until they record again: only the contents go.
    const std::lock_guard<SpinLock> lock(each->lock);
    each->table = ThreadTable();
    each->index.clear();
    each->signature_index.clear();
    each->signature_codes.clear();
  }
  all.recorders.clear();
}

bool table_recording() { return (state().generation.load(std::memory_order_acquire) & 1) != 0; }

void table_enter(const std::string& label, bool resumed, bool part) {
  Recorder* self = recorder();
  if (self == nullptr) return;
  const std::lock_guard<SpinLock> guard(self->lock);
  if (self->closed) return;
  if (part) {
    const std::lock_guard<std::mutex> parts(state().mutex);
    state().part = label;
    self->part = self->stack.size();
  }
  const uint32_t parent =
      self->stack.empty() ? (part ? 0 : top_of(*self)) : self->stack.back().node;
  self->open(self->child(parent, NodeKind::Scope, label.c_str(), 0), !resumed);
}

void table_exit() {
  const uint64_t end = now();
  Recorder* self = recorder();
  if (self == nullptr) return;
  const std::lock_guard<SpinLock> guard(self->lock);
  if (self->closed || self->stack.empty()) return;
  self->close(end);
  if (self->stack.size() != self->part) return;
  self->part = SIZE_MAX;
  const std::lock_guard<std::mutex> parts(state().mutex);
  state().part.clear();
}

}  // namespace vllm_ops
