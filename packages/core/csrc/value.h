// SPDX-License-Identifier: Apache-2.0
// Between the argument buffer and IValues, by the operator's schema.

#pragma once

#include "environment.h"

namespace vllm_ops {

// Reads the entries [begin, end) of the buffer as the arguments of `op`. On a wrong argument: false, and
// `environment.failure` names it. Nothing has been called then.
bool decode_arguments(Environment& environment, const Operator& op, size_t begin, size_t end,
                      torch::jit::Stack& stack);

// Writes one value at `position`, growing never: JavaScript sized the buffer by `capacity`, longer lists throw.
// Returns the position behind it.
size_t encode_value(Environment& environment, const c10::IValue& value, Kind kind, size_t position);

// Reads one value of any kind, typed by what it is rather than by a schema: results of JavaScript kernels.
c10::IValue decode_result(Environment& environment, const c10::TypePtr& type, Kind kind, size_t& position);

// 'float32[2, 3] on cpu', for messages.
std::string describe_tensor(const Environment& environment, const at::Tensor& tensor);

}  // namespace vllm_ops
