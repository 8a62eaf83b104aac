// SPDX-License-Identifier: Apache-2.0
// An operator as calls need it: its dispatcher handle and, prepared once, how each argument is
// converted.

#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string>
#include <vector>

namespace vllm_ops {

enum class Kind : uint8_t {
  Tensor,
  Int,
  Float,
  Bool,
  Scalar,
  String,
  ScalarType,
  Layout,
  MemoryFormat,
  Device,
  Generator,
  Unsupported,
};

struct Parameter {
  std::string name;
  std::string type;      // as the schema prints it
  std::string expected;  // in words, for messages
  Kind kind = Kind::Unsupported;
  bool optional = false;           // T?
  bool list = false;               // T[]
  bool optional_elements = false;  // T?[]
  bool number_as_tensor = false;   // Tensor other = 2, in arithmetic
  bool keyword_only = false;
  bool out = false;               // keyword-only and written to: the `out` of an out variant
  std::optional<int64_t> length;  // int[2] also takes one int
  bool has_default = false;
  c10::IValue default_value;
  c10::TypePtr element;  // of a list
};

// How an argument or a result of a schema is converted.
Parameter parameter_of(const c10::Argument& argument);

struct Operator {
  explicit Operator(c10::OperatorHandle handle);

  c10::OperatorHandle handle;
  std::string name;  // 'aten::add.Tensor'
  std::vector<Parameter> parameters;
  std::vector<Parameter> results;
  // A result is one of the arguments, as `Tensor(a!)` says: JavaScript gives its own object back. A
  // result that merely may be an argument (`contiguous`) is a tensor of its own, so that who
  // disposes what doesn't depend on the input.
  bool returns_arguments = false;
};

}  // namespace vllm_ops
