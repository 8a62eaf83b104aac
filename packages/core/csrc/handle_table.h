// SPDX-License-Identifier: Apache-2.0
// Native values that JavaScript holds by number. A handle is generation * 2^32 + slot, exact in a
// double: after its slot was released and taken again an old handle no longer matches, so a late
// finalizer or a disposed object finds nothing instead of somebody else's value. Handle 0 is never
// given out. One table belongs to one Node environment and one thread; it outlives the environment
// until the last finalizer ran.

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace vllm_ops {

template <typename Value>
class HandleTable {
 public:
  double insert(Value value) {
    uint32_t slot;
    if (free_ != kNone) {
      slot = free_;
      free_ = slots_[slot].next;
    } else {
      slot = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    }
    Slot& entry = slots_[slot];
    entry.value = std::move(value);
    entry.live = true;
    ++live_;
    return handle_of(slot);
  }

  // The value of a handle, or nullptr when it was released or never existed.
  Value* find(double handle) {
    if (!(handle >= 1.0 && handle < 9007199254740992.0)) return nullptr;
    const auto bits = static_cast<uint64_t>(handle);
    const auto slot = static_cast<uint32_t>(bits);
    if (slot >= slots_.size()) return nullptr;
    Slot& entry = slots_[slot];
    if (!entry.live || entry.generation != static_cast<uint32_t>(bits >> 32)) return nullptr;
    return &entry.value;
  }

  // Takes the value out. The caller destroys it, after the table is consistent again.
  bool remove(double handle, Value& out) {
    Value* value = find(handle);
    if (value == nullptr) return false;
    const auto slot = static_cast<uint32_t>(static_cast<uint64_t>(handle));
    Slot& entry = slots_[slot];
    out = std::move(*value);
    entry.value = Value();
    entry.live = false;
    --live_;
    // A slot whose generations are used up is retired rather than reused.
    if (entry.generation < kLastGeneration) {
      ++entry.generation;
      entry.next = free_;
      free_ = slot;
    }
    return true;
  }

  size_t live() const { return live_; }

  // Every live handle, in no particular order.
  std::vector<double> all() const {
    std::vector<double> found;
    found.reserve(live_);
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      if (slots_[slot].live) found.push_back(handle_of(static_cast<uint32_t>(slot)));
    }
    return found;
  }

 private:
  static constexpr uint32_t kNone = 0xffffffffu;
  static constexpr uint32_t kLastGeneration = (1u << 21) - 1;
  struct Slot {
    Value value{};
    uint32_t generation = 1;
    uint32_t next = kNone;
    bool live = false;
  };

  double handle_of(uint32_t slot) const {
    return static_cast<double>((static_cast<uint64_t>(slots_[slot].generation) << 32) | slot);
  }

  std::vector<Slot> slots_;
  uint32_t free_ = kNone;
  size_t live_ = 0;
};

}  // namespace vllm_ops
