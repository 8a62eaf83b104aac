// SPDX-License-Identifier: Apache-2.0
// Results, and arguments of JavaScript kernels, into the argument buffer.

#include "names.h"
#include "value.h"

namespace vllm_ops {
namespace {

void put(Environment& environment, size_t position, Tag tag, double value) {
  environment.tags[position] = static_cast<uint8_t>(tag);
  environment.values[position] = value;
}

void put_integer(Environment& environment, size_t position, int64_t value) {
  if (value >= -static_cast<int64_t>(kSafeInteger) && value <= static_cast<int64_t>(kSafeInteger)) {
    put(environment, position, Tag::Number, static_cast<double>(value));
  } else {
    put(environment, position, Tag::BigInt, 0);
    environment.integers[position] = value;
  }
}

// A name that comes again and again.
void put_name(Environment& environment, size_t position, const std::string& text) {
  put(environment, position, Tag::String, environment.intern(text));
}

void put_int(Environment& environment, size_t position, Kind kind, int64_t value) {
  const char* name = nullptr;
  if (kind == Kind::ScalarType) name = environment.dtype_name(static_cast<c10::ScalarType>(value));
  if (kind == Kind::Layout) name = layout_name(value);
  if (kind == Kind::MemoryFormat) name = memory_format_name(value);
  if (name != nullptr) {
    put_name(environment, position, name);
  } else {
    put_integer(environment, position, value);
  }
}

}  // namespace

size_t entries_of(const c10::IValue& value) {
  if (value.isTensor() || value.isInt() || value.isDouble() || value.isBool() || value.isNone() ||
      value.isString() || value.isDevice() || value.isSymInt() || value.isGenerator()) {
    return 1;
  }
  if (value.isComplexDouble()) return 2;
  size_t count = 1;
  if (value.isTuple()) {
    for (const c10::IValue& element : value.toTupleRef().elements()) count += entries_of(element);
    return count;
  }
  if (value.isList()) {
    for (const c10::IValue& element : value.toListRef()) count += entries_of(element);
    return count;
  }
  TORCH_CHECK(false, "a value of type ", value.tagKind(), " has no form in JavaScript");
}

void encode_results(Environment& environment, const Operator& op,
                    const ArgumentIdentities& identities, torch::jit::Stack& stack) {
  const size_t count = stack.size();
  TORCH_CHECK(count == op.results.size(), "the kernel left ", count,
              " results where its schema says ", op.results.size());
  size_t entries = kHeader;
  for (const c10::IValue& result : stack) entries += result.isTensor() ? 1 : entries_of(result);
  environment.reserve(entries);
  size_t position = kHeader;
  for (size_t i = 0; i < count; ++i) {
    const int64_t argument = op.returns_arguments ? identities.find(stack[i]) : -1;
    if (argument >= 0) {
      environment.tags[position] = static_cast<uint8_t>(Tag::Argument);
      environment.values[position++] = static_cast<double>(argument);
    } else {
      position = encode_value(environment, std::move(stack[i]), op.results[i].kind, position);
    }
  }
  environment.values[0] = static_cast<double>(count);
}

size_t encode_value(Environment& environment, c10::IValue value, Kind kind, size_t position,
                    size_t others) {
  if (value.isTensor()) {
    at::Tensor tensor = std::move(value).toTensor();
    if (tensor.defined()) {
      const Tag tag = Environment::is_small(tensor) ? Tag::SmallTensor : Tag::Tensor;
      put(environment, position, tag, environment.adopt(std::move(tensor), others));
    } else {
      put(environment, position, Tag::None, 0);
    }
    return position + 1;
  }
  if (value.isInt()) {
    put_int(environment, position, kind, value.toInt());
    return position + 1;
  }
  if (value.isDouble()) {
    put(environment, position, Tag::Number, value.toDouble());
    return position + 1;
  }
  if (value.isBool()) {
    put(environment, position, Tag::Bool, value.toBool() ? 1 : 0);
    return position + 1;
  }
  if (value.isString()) {
    put(environment, position, Tag::String, environment.pass(value.toStringRef()));
    return position + 1;
  }
  if (value.isDevice()) {
    put_name(environment, position, value.toDevice().str());
    return position + 1;
  }
  if (value.isComplexDouble()) {
    const c10::complex<double> number = value.toComplexDouble();
    put(environment, position, Tag::Complex, number.real());
    put(environment, position + 1, Tag::Complex, number.imag());
    return position + 2;
  }
  if (value.isSymInt()) {
    put_int(environment, position, kind, value.toSymInt().guard_int(__FILE__, __LINE__));
    return position + 1;
  }
  if (value.isGenerator()) {
    put(environment, position, Tag::Generator, environment.generators.insert(value.toGenerator()));
    return position + 1;
  }
  if (value.isTuple()) {
    const auto& elements = value.toTupleRef().elements();
    put(environment, position++, Tag::List, static_cast<double>(elements.size()));
    for (const c10::IValue& element : elements) {
      position = encode_value(environment, element, kind, position, 1);
    }
    return position;
  }
  if (value.isList()) {
    const c10::List<c10::IValue> items = value.toList();
    put(environment, position++, Tag::List, static_cast<double>(items.size()));
    for (size_t i = 0; i < items.size(); ++i) {
      position = encode_value(environment, items.get(i), kind, position, 1);
    }
    return position;
  }
  put(environment, position, Tag::None, 0);
  return position + 1;
}

}  // namespace vllm_ops
