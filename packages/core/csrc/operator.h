// SPDX-License-Identifier: Apache-2.0
// An operator as calls need it: its dispatcher handle and, prepared once, how each argument is converted.

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
  std::string type;  // as the schema prints it, for messages
  Kind kind = Kind::Unsupported;
  bool optional = false;          // T?
  bool list = false;              // T[]
  bool optional_elements = false;  // T?[]
  bool keyword_only = false;
  std::optional<int64_t> length;  // int[2] also takes one int
  bool has_default = false;
  c10::IValue default_value;
  c10::TypePtr element;  // of a list
};

struct Operator {
  explicit Operator(c10::OperatorHandle handle);

  c10::OperatorHandle handle;
  std::string name;  // 'aten::add.Tensor'
  std::vector<Parameter> parameters;
  std::vector<Kind> results;  // how the results are written: a ScalarType result is a name, not a number
  bool aliases = false;       // a result may be one of the arguments
};

}  // namespace vllm_ops
