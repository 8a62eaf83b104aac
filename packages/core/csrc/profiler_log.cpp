// SPDX-License-Identifier: Apache-2.0
#include "profiler_log.h"

#include <bit>
#include <cstring>

#include "profiler_recording.h"

namespace vllm_ops {
namespace {

// Words of a piece of a log. Working out many calls at once finds the tables in the caches, where
// each single call would have to fetch its own from memory; and the piece itself has to fit there.
constexpr size_t kWords = 1 << 16;
constexpr size_t kScalars = 255;  // arguments of a call whose numbers are noted, at most
// Signatures of a thread, so that sizes that grow with every step take no memory without bound.
constexpr uint32_t kSignatures = 1 << 16;

// A first word: the kind and the flags, the number of scalars, the name, the signature.
constexpr uint64_t kScope = 1 << 2;
constexpr uint64_t kResumed = 1 << 3;
constexpr int kCountAt = 8;
constexpr int kNameAt = 16;
constexpr int kSignatureAt = 40;

uint64_t first_word(EntryKind kind, uint64_t flags, uint64_t count, uint64_t name,
                    uint64_t signature) {
  return static_cast<uint64_t>(kind) | flags | (count << kCountAt) | (name << kNameAt) |
         (signature << kSignatureAt);
}

uint64_t exit_word(uint64_t end) { return (end << 2) | static_cast<uint64_t>(EntryKind::Exit); }

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15u;
  return hash ^ (hash >> 29);
}

// Kinds of arguments in a signature, beside c10's scalar types, which are smaller.
constexpr uint64_t kNothing = 1000;
constexpr uint64_t kScalar = 1001;
constexpr uint64_t kTensorList = 1002;

bool has_sizes(const at::Tensor& tensor) { return tensor.defined() && !tensor.is_nested(); }

uint64_t hash_argument(uint64_t hash, const c10::IValue& input) {
  if (input.isTensor()) {
    const at::Tensor& tensor = input.toTensor();
    if (!has_sizes(tensor)) return mix(hash, kNothing);
    hash = mix(hash, static_cast<uint64_t>(tensor.scalar_type()));
    hash = mix(hash, static_cast<uint64_t>(tensor.dim()));
    for (const int64_t size : tensor.sizes()) hash = mix(hash, static_cast<uint64_t>(size));
    return hash;
  }
  if (input.isInt() || input.isDouble() || input.isBool()) return mix(hash, kScalar);
  return mix(hash, input.isTensorList() ? kTensorList : kNothing);
}

void describe_argument(Signature& signature, const c10::IValue& input) {
  std::vector<int64_t> shape;
  std::string dtype;
  if (input.isTensor()) {
    const at::Tensor& tensor = input.toTensor();
    if (has_sizes(tensor)) {
      shape = tensor.sizes().vec();
      dtype = std::string(tensor.dtype().name());
    }
  } else if (input.isInt() || input.isDouble() || input.isBool()) {
    dtype = "Scalar";
  } else if (input.isTensorList()) {
    dtype = "TensorList";
  }
  signature.dtypes.push_back(std::move(dtype));
  signature.shapes.push_back(std::move(shape));
}

}  // namespace

bool LogReader::next(Entry& entry) {
  if (at_ == end_) return false;
  const uint64_t word = *at_++;
  entry.kind = static_cast<EntryKind>(word & 3);
  switch (entry.kind) {
    case EntryKind::Exit:
      entry.ticks = word >> 2;
      return true;
    case EntryKind::Memory:
      entry.bytes = static_cast<int64_t>(word) >> 2;
      return true;
    default:
      entry.scope = (word & kScope) != 0;
      entry.resumed = (word & kResumed) != 0;
      entry.scalar_count = static_cast<uint32_t>((word >> kCountAt) & kScalars);
      entry.name = static_cast<uint32_t>((word >> kNameAt) & 0xffffff);
      entry.signature = static_cast<uint32_t>(word >> kSignatureAt);
      entry.ticks = *at_++;
      entry.scalars = at_;
      at_ += entry.scalar_count;
      return true;
  }
}

ThreadLog::ThreadLog(std::unique_ptr<LogSink> sink, bool shapes, bool owner)
    : sink_(std::move(sink)), shapes_(shapes), owner_(owner), words_(new uint64_t[kWords]) {
  // Number 0 is none.
  names_.emplace_back();
  signatures_.emplace_back();
}

uint64_t* ThreadLog::reserve(size_t words, bool at_end) {
  if (written_ + words > kWords) {
    if (!turn_over()) return nullptr;
    if (!at_end) note_work();
  }
  return words_.get() + written_;
}

void ThreadLog::publish(size_t words) {
  written_ += words;
  published_.store(written_, std::memory_order_release);
}

// The full piece goes to the sink, or is kept.
bool ThreadLog::turn_over() {
  const uint64_t start = ticks();
  const std::lock_guard<std::mutex> guard(mutex_);
  if (closed_) return false;
  if (sink_ == nullptr) {
    full_.push_back(std::move(words_));
    full_sizes_.push_back(written_);
    words_.reset(new uint64_t[kWords]);
  } else {
    sink_->take(*this, {words_.get(), written_});
    work_start_ = start;
    work_end_ = ticks();
  }
  written_ = 0;
  published_.store(0, std::memory_order_release);
  return true;
}

// What is open has lasted for as long as that took: it is a call of its own in there.
void ThreadLog::note_work() {
  if (work_end_ == 0) return;
  const uint32_t name = name_of(kWorkedOut);
  words_[written_] = first_word(EntryKind::Enter, kScope, 0, name, 0);
  words_[written_ + 1] = work_start_;
  words_[written_ + 2] = exit_word(work_end_);
  work_end_ = 0;
  publish(3);
}

void ThreadLog::note_part() {
  if (owner_ || sink_ == nullptr || current_part() == part_) return;
  uint64_t* at = reserve(2);
  if (at == nullptr) return;
  part_ = current_part();
  const std::string label = part_label(part_);
  at[0] = first_word(EntryKind::Part, 0, 0, label.empty() ? 0 : name_of(label.c_str()), 0);
  at[1] = ticks();
  publish(2);
}

void ThreadLog::enter_op(const at::RecordFunction& call) {
  note_part();
  const bool scope = call.scope() == at::RecordScope::USER_SCOPE;
  c10::ArrayRef<const c10::IValue> inputs;
  if (shapes_ && !scope && call.inputs().size() <= kScalars) inputs = call.inputs();
  const size_t count = inputs.size();
  uint64_t* at = reserve(2 + count);
  if (at == nullptr) return;
  uint64_t hash = count;
  bool numbers = false;
  for (size_t i = 0; i < count; ++i) {
    const c10::IValue& input = inputs[i];
    double number = 0;
    if (input.isInt() || input.isDouble() || input.isBool()) {
      number = input.isInt()      ? static_cast<double>(input.toInt())
               : input.isDouble() ? input.toDouble()
                                  : static_cast<double>(input.toBool());
      numbers = true;
    }
    at[2 + i] = std::bit_cast<uint64_t>(number);
    hash = hash_argument(hash, input);
  }
  const uint32_t name = name_of(call.name());
  const uint32_t signature = count == 0 ? 0 : signature_of(hash, inputs);
  const size_t scalars = numbers ? count : 0;
  open_.push_back(&call);
  at[0] = first_word(EntryKind::Enter, scope ? kScope : 0, scalars, name, signature);
  at[1] = ticks();
  publish(2 + scalars);
}

void ThreadLog::exit_op(const at::RecordFunction& call, uint64_t end) {
  // Scopes that a kernel in JavaScript opened inside and left open end with it.
  size_t depth = open_.size();
  while (depth > 0 && open_[depth - 1] != &call) --depth;
  if (depth == 0) return;
  while (open_.size() >= depth) {
    open_.pop_back();
    append_exit(end);
  }
  note_work();
}

void ThreadLog::append_exit(uint64_t end) {
  uint64_t* at = reserve(1, true);
  if (at == nullptr) return;
  *at = exit_word(end);
  publish(1);
}

void ThreadLog::enter_scope(uint32_t scope, const std::string& label, bool resumed) {
  note_part();
  if (scope >= scope_names_.size()) scope_names_.resize(scope + 1);
  if (scope_names_[scope] == 0) scope_names_[scope] = add_name(label.c_str());
  uint64_t* at = reserve(2);
  if (at == nullptr) return;
  open_.push_back(nullptr);
  const uint64_t flags = kScope | (resumed ? kResumed : 0);
  at[0] = first_word(EntryKind::Enter, flags, 0, scope_names_[scope], 0);
  at[1] = ticks();
  publish(2);
}

void ThreadLog::exit_scope(uint64_t end) {
  if (open_.empty() || open_.back() != nullptr) return;
  open_.pop_back();
  append_exit(end);
  note_work();
}

void ThreadLog::memory(int64_t bytes) {
  uint64_t* at = reserve(1);
  if (at == nullptr) return;
  *at = (static_cast<uint64_t>(bytes) << 2) | static_cast<uint64_t>(EntryKind::Memory);
  publish(1);
}

// An operator's name stands at one place for as long as it is registered: looked at, since another
// one may be registered there later.
uint32_t ThreadLog::name_of(const char* name) {
  Named& cached = name_cache_[(reinterpret_cast<uintptr_t>(name) >> 4) % name_cache_.size()];
  if (cached.text == name && std::strcmp(cached.known, name) == 0) return cached.id;
  const uint32_t id = add_name(name);
  cached = {name, names_[id].c_str(), id};
  return id;
}

uint32_t ThreadLog::add_name(const char* name) {
  const std::lock_guard<std::mutex> guard(mutex_);
  if (closed_) return 0;  // whoever closed it reads the names
  const auto [known, added] = name_ids_.try_emplace(name, static_cast<uint32_t>(names_.size()));
  if (added) names_.emplace_back(name);
  return known->second;
}

// Two of 2^16 signatures have one hash with a probability of 1 in 2^32: they are told apart by it.
uint32_t ThreadLog::signature_of(uint64_t hash, c10::ArrayRef<const c10::IValue> inputs) {
  Signed& cached = signature_cache_[hash % signature_cache_.size()];
  if (cached.hash == hash && cached.id != 0) return cached.id;
  const std::lock_guard<std::mutex> guard(mutex_);
  const auto known = signature_ids_.find(hash);
  if (known != signature_ids_.end()) {
    cached = {hash, known->second};
    return known->second;
  }
  if (closed_ || signatures_.size() >= kSignatures) return 0;
  Signature signature;
  for (const c10::IValue& input : inputs) describe_argument(signature, input);
  const auto id = static_cast<uint32_t>(signatures_.size());
  signatures_.push_back(std::move(signature));
  signature_ids_.emplace(hash, id);
  cached = {hash, id};
  return id;
}

void ThreadLog::close() {
  // Its thread may be in the middle of a call: it goes on beyond what it has published, unread.
  const std::lock_guard<std::mutex> guard(mutex_);
  if (closed_) return;
  closed_ = true;
  full_sizes_.push_back(published_.load(std::memory_order_acquire));
  if (sink_ != nullptr) sink_->take(*this, {words_.get(), full_sizes_.back()});
}

std::vector<std::span<const uint64_t>> ThreadLog::pieces() const {
  std::vector<std::span<const uint64_t>> result;
  for (size_t i = 0; i < full_.size(); ++i) result.emplace_back(full_[i].get(), full_sizes_[i]);
  result.emplace_back(words_.get(), full_sizes_.back());
  return result;
}

void ThreadLog::clear() {
  const std::lock_guard<std::mutex> guard(mutex_);
  full_.clear();
  full_sizes_.clear();
}

}  // namespace vllm_ops
