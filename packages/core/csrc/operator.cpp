// SPDX-License-Identifier: Apache-2.0

#include "operator.h"

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

// `real_type` keeps what the schema says (ScalarType, SymInt); `type` has it lowered to int.
Parameter parameter_of(const c10::Argument& argument) {
  Parameter parameter;
  parameter.name = argument.name();
  parameter.type = argument.real_type()->str();
  parameter.keyword_only = argument.kwarg_only();
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
  return parameter;
}

}  // namespace

Operator::Operator(c10::OperatorHandle operator_handle) : handle(std::move(operator_handle)) {
  const c10::FunctionSchema& schema = handle.schema();
  name = schema.overload_name().empty() ? schema.name()
                                        : schema.name() + "." + schema.overload_name();
  parameters.reserve(schema.arguments().size());
  for (const c10::Argument& argument : schema.arguments()) {
    parameters.push_back(parameter_of(argument));
  }
  for (const c10::Argument& result : schema.returns()) {
    results.push_back(kind_of(result.real_type()));
    if (result.alias_info() != nullptr) aliases = true;
  }
}

}  // namespace vllm_ops
