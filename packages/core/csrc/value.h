// SPDX-License-Identifier: Apache-2.0
// Between the argument buffer and IValues, by the operator's schema.

#pragma once

#include "environment.h"

namespace vllm_ops {

// Reads the entries [begin, end) of the buffer as the arguments of `op`. On a wrong argument:
// false, and `environment.failure` names it. Nothing has been called then.
bool decode_arguments(Environment& environment, const Operator& op, size_t begin, size_t end,
                      torch::jit::Stack& stack);

// The number of entries that a value takes. Throws for a value that JavaScript has no form for:
// before anything of the results was handed out.
size_t entries_of(const c10::IValue& value);

// Writes one value at `position` and returns the position behind it; `Environment::reserve` made
// room. `kind` tells what an integer stands for, `others` how many more references than `value`
// hold a tensor of it.
size_t encode_value(Environment& environment, c10::IValue value, Kind kind, size_t position,
                    size_t others = 0);

// Which argument a result is: the same TensorImpl, as `add_` and out variants return.
struct ArgumentIdentities {
  static constexpr size_t kMost = 16;
  const c10::TensorImpl* impl[kMost];
  size_t index[kMost];
  size_t count = 0;

  void collect(const torch::jit::Stack& stack) {
    for (size_t i = 0; i < stack.size() && count < kMost; ++i) {
      if (!stack[i].isTensor()) continue;
      impl[count] = stack[i].unsafeToTensorImpl();
      index[count++] = i;
    }
  }
  int64_t find(const c10::IValue& value) const {
    if (!value.isTensor()) return -1;
    const c10::TensorImpl* wanted = value.unsafeToTensorImpl();
    for (size_t i = 0; i < count; ++i) {
      if (impl[i] == wanted) return static_cast<int64_t>(index[i]);
    }
    return -1;
  }
};

// Writes the results that a call of `op` left on the stack, and their number into values[0].
void encode_results(Environment& environment, const Operator& op,
                    const ArgumentIdentities& identities, torch::jit::Stack& stack);

// Reads one value at `position`, which moves on: a result of a JavaScript kernel.
c10::IValue decode_result(Environment& environment, const Parameter& result, size_t& position);

// The loan that a tensor's memory is, or nullptr (tensor.cpp).
const Loan* loan_of(const at::Tensor& tensor);
// Whether its ArrayBuffer was transferred away.
bool is_gone(const Environment& environment, const Loan& loan);

}  // namespace vllm_ops
