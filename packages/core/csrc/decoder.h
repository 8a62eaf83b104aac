// SPDX-License-Identifier: Apache-2.0
// The cursor that reads the argument buffer: decode.cpp has single values, decode_list.cpp lists.

#pragma once

#include <cmath>

#include "names.h"
#include "value.h"

namespace vllm_ops {

class Decoder {
 public:
  Decoder(Environment& environment, size_t begin, size_t end)
      : environment_(environment), position_(begin), end_(end) {}

  size_t position() const { return position_; }
  bool at_end() const { return position_ >= end_; }

  // The commonest cases by themselves: a live tensor, a number or a boolean where one is wanted,
  // null where it may stand. False leaves everything else, and every error, to `parameter`.
  bool plain(const Parameter& parameter, torch::jit::Stack& stack) {
    if (parameter.list || at_end()) return false;
    switch (tag()) {
      case Tag::Tensor: {
        if (parameter.kind != Kind::Tensor) return false;
        const TensorEntry* entry = environment_.tensors->handles.find(value());
        if (entry == nullptr || !has_memory(*entry)) return false;
        stack.emplace_back(entry->tensor);
        break;
      }
      case Tag::Number: {
        const double number = value();
        if (parameter.kind == Kind::Float) {
          stack.emplace_back(number);
        } else if (parameter.kind == Kind::Int && is_integer(number)) {
          stack.emplace_back(static_cast<int64_t>(number));
        } else {
          return false;
        }
        break;
      }
      case Tag::Bool:
        if (parameter.kind != Kind::Bool) return false;
        stack.emplace_back(value() != 0);
        break;
      case Tag::None:
        if (!parameter.optional) return false;
        stack.emplace_back();
        break;
      default:
        return false;
    }
    ++position_;
    return true;
  }

  // Converts the entry at the cursor for `parameter`; false leaves expected and received in the
  // failure.
  bool parameter(const Parameter& parameter, c10::IValue& out);

 private:
  static bool is_integer(double number) {
    return std::fabs(number) <= kSafeInteger && number == std::trunc(number);
  }

  // Whether a tensor's memory is still there. Only what was borrowed from JavaScript can go away,
  // and mostly nothing is borrowed.
  bool has_memory(const TensorEntry& entry) const {
    if (environment_.lender->loans.load(std::memory_order_relaxed) == 0) return true;
    const Loan* loan = loan_of(entry.tensor);
    return loan == nullptr || !is_gone(environment_, *loan);
  }

  Tag tag() const { return static_cast<Tag>(environment_.tags[position_]); }
  double value() const { return environment_.values[position_]; }

  bool fail(std::string expected, std::string received) {
    environment_.failure.expected = std::move(expected);
    environment_.failure.received = std::move(received);
    return false;
  }
  bool mismatch(const Parameter& parameter) {
    return fail(parameter.expected,
                item_ < 0 ? describe() : describe() + " at index " + std::to_string(item_));
  }

  std::string describe() const;

  const std::string& string() const { return environment_.string(value()).toStringRef(); }

  // The tensor at the cursor; nullptr after a failure.
  const at::Tensor* tensor(const Parameter& parameter);
  bool integer(const Parameter& parameter, int64_t& out);
  bool real(const Parameter& parameter, double& out);
  bool scalar(const Parameter& parameter, c10::IValue& out);
  bool wrapped(const Parameter& parameter, c10::IValue& out);
  template <typename Lookup>
  bool named(const Parameter& parameter, c10::IValue& out, Lookup lookup);
  bool single(const Parameter& parameter, c10::IValue& out);

  bool list(const Parameter& parameter, c10::IValue& out);
  bool items(const Parameter& parameter, size_t count, c10::IValue& out);
  bool tensors(const Parameter& parameter, size_t count, c10::IValue& out);
  bool optional_tensors(const Parameter& parameter, size_t count, c10::IValue& out);
  template <typename T>
  bool typed_list(const Parameter& parameter, size_t count, c10::IValue& out);
  bool broadcast(const Parameter& parameter, c10::IValue& out);

  Environment& environment_;
  size_t position_;
  size_t end_;
  int64_t item_ = -1;  // of the list that is being read
};

}  // namespace vllm_ops
