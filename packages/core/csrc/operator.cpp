// SPDX-License-Identifier: Apache-2.0

#include "operator.h"

#include <unordered_set>

namespace vllm_ops {
namespace {

Kind kind_of(const c10::TypePtr& type) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      return Kind::Tensor;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return Kind::Int;
    case c10::TypeKind::FloatType:
    case c10::TypeKind::SymFloatType:
      return Kind::Float;
    case c10::TypeKind::BoolType:
    case c10::TypeKind::SymBoolType:
      return Kind::Bool;
    case c10::TypeKind::NumberType:
      return Kind::Scalar;
    case c10::TypeKind::StringType:
      return Kind::String;
    case c10::TypeKind::ScalarTypeType:
      return Kind::ScalarType;
    case c10::TypeKind::LayoutType:
      return Kind::Layout;
    case c10::TypeKind::MemoryFormatType:
      return Kind::MemoryFormat;
    case c10::TypeKind::DeviceObjType:
      return Kind::Device;
    case c10::TypeKind::GeneratorType:
      return Kind::Generator;
    default:
      return Kind::Unsupported;
  }
}

struct Words {
  const char* one;
  const char* many;
};

Words words_of(Kind kind) {
  switch (kind) {
    case Kind::Tensor:
      return {"a tensor", "tensors"};
    case Kind::Int:
      return {"an integer", "integers"};
    case Kind::Float:
      return {"a number", "numbers"};
    case Kind::Bool:
      return {"true or false", "booleans"};
    case Kind::Scalar:
      return {"a number or a boolean", "numbers or booleans"};
    case Kind::String:
      return {"a string", "strings"};
    case Kind::ScalarType:
      return {"a dtype such as 'float32'", "dtypes such as 'float32'"};
    case Kind::Layout:
      return {"a layout such as 'strided'", "layouts such as 'strided'"};
    case Kind::MemoryFormat:
      return {"a memory format such as 'contiguous_format'", "memory formats"};
    case Kind::Device:
      return {"a device such as 'cpu' or 'cuda:0'", "devices such as 'cpu' or 'cuda:0'"};
    case Kind::Generator:
      return {"a generator", "generators"};
    case Kind::Unsupported:
      break;
  }
  return {"a value that JavaScript has no form for", "values that JavaScript has no form for"};
}

std::string expected_of(const Parameter& parameter) {
  const Words words = words_of(parameter.kind);
  if (parameter.kind == Kind::Unsupported) {
    return "a value of type " + parameter.type + ", which JavaScript has no form for";
  }
  if (!parameter.list) return std::string(words.one) + (parameter.optional ? " or null" : "");
  std::string text = "an array of ";
  if (parameter.length) text += std::to_string(*parameter.length) + " ";
  text += words.many;
  if (parameter.optional_elements) text += " or nulls";
  return parameter.optional ? text + ", or null" : text;
}

}  // namespace

// `real_type` keeps what the schema says (ScalarType, SymInt); `type` has it lowered to int.
Parameter parameter_of(const c10::Argument& argument) {
  Parameter parameter;
  parameter.name = argument.name();
  parameter.type = argument.real_type()->str();
  parameter.keyword_only = argument.kwarg_only();
  parameter.out =
      argument.kwarg_only() && argument.alias_info() != nullptr && argument.alias_info()->isWrite();
  if (argument.N()) parameter.length = *argument.N();
  if (argument.default_value()) {
    parameter.has_default = true;
    parameter.default_value = *argument.default_value();
  }
  c10::TypePtr real = argument.real_type();
  c10::TypePtr lowered = argument.type();
  if (auto inner = real->cast<c10::OptionalType>()) {
    parameter.optional = true;
    real = inner->getElementType();
    if (auto plain = lowered->cast<c10::OptionalType>()) lowered = plain->getElementType();
  }
  if (auto inner = real->cast<c10::ListType>()) {
    parameter.list = true;
    real = inner->getElementType();
    if (auto plain = lowered->cast<c10::ListType>()) lowered = plain->getElementType();
    parameter.element = lowered;
    if (auto element = real->cast<c10::OptionalType>()) {
      parameter.optional_elements = true;
      real = element->getElementType();
    }
  }
  parameter.kind = kind_of(real);
  parameter.expected = expected_of(parameter);
  return parameter;
}

namespace {

// The ops whose tensor arguments may be numbers, as in Python (should_allow_numbers_as_tensors in
// torch/csrc/utils/python_arg_parser.cpp), without those that have no other argument.
bool takes_numbers_as_tensors(const std::string& name) {
  static const std::unordered_set<std::string> kNames = {
      "aten::add",          "aten::add_",          "aten::sub",         "aten::sub_",
      "aten::mul",          "aten::mul_",          "aten::div",         "aten::div_",
      "aten::subtract",     "aten::subtract_",     "aten::multiply",    "aten::multiply_",
      "aten::divide",       "aten::divide_",       "aten::true_divide", "aten::true_divide_",
      "aten::floor_divide", "aten::floor_divide_", "aten::copy_"};
  return kNames.count(name) != 0;
}

}  // namespace

Operator::Operator(c10::OperatorHandle operator_handle) : handle(std::move(operator_handle)) {
  const c10::FunctionSchema& schema = handle.schema();
  name =
      schema.overload_name().empty() ? schema.name() : schema.name() + "." + schema.overload_name();
  parameters.reserve(schema.arguments().size());
  for (const c10::Argument& argument : schema.arguments()) {
    parameters.push_back(parameter_of(argument));
    Parameter& parameter = parameters.back();
    parameter.number_as_tensor = parameter.kind == Kind::Tensor && !parameter.list &&
                                 takes_numbers_as_tensors(schema.name());
  }
  for (const c10::Argument& result : schema.returns()) {
    results.push_back(parameter_of(result));
    if (result.alias_info() != nullptr && result.alias_info()->isWrite()) returns_arguments = true;
  }
}

}  // namespace vllm_ops
