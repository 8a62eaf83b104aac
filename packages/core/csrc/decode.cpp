// SPDX-License-Identifier: Apache-2.0
// Single values out of the argument buffer, and the arguments of a call.

#include <ATen/ScalarOps.h>

#include <sstream>

#include "decoder.h"

namespace vllm_ops {
namespace {

// 'tensor float32[2, 3] on cpu'
std::string text_of(const Environment& environment, const at::Tensor& tensor) {
  if (!tensor.defined()) return "an undefined tensor";
  std::ostringstream stream;
  stream << "tensor " << environment.dtype_name(tensor.scalar_type());
  if (!tensor.unsafeGetTensorImpl()->is_nested()) {
    stream << '[';
    for (int64_t i = 0; i < tensor.dim(); ++i) stream << (i == 0 ? "" : ", ") << tensor.sizes()[i];
    stream << ']';
  }
  stream << " on " << tensor.device().str();
  return stream.str();
}

}  // namespace

bool Decoder::parameter(const Parameter& parameter, c10::IValue& out) {
  const Tag tag = this->tag();
  if (tag == Tag::Absent) {
    ++position_;
    if (parameter.has_default) {
      out = parameter.default_value;
      return true;
    }
    if (parameter.optional) {
      out = c10::IValue();
      return true;
    }
    return fail(parameter.expected, "nothing");
  }
  if (tag == Tag::None && parameter.optional) {
    ++position_;
    out = c10::IValue();
    return true;
  }
  if (parameter.list) return list(parameter, out);
  return single(parameter, out);
}

std::string Decoder::describe() const {
  switch (tag()) {
    case Tag::None:
      return "null";
    case Tag::Absent:
      return "nothing";
    case Tag::Tensor: {
      const TensorEntry* entry = environment_.tensors->handles.find(value());
      return entry == nullptr ? "a disposed tensor" : text_of(environment_, entry->tensor);
    }
    case Tag::Number:
      return "number " + number_text(value());
    case Tag::Float:
      return "float " + number_text(value());
    case Tag::BigInt:
      return "bigint " + std::to_string(environment_.integers[position_]) + "n";
    case Tag::Bool:
      return value() != 0 ? "true" : "false";
    case Tag::String:
      return "'" + string() + "'";
    case Tag::List:
      return "an array of " + number_text(value());
    case Tag::Complex:
      return "a complex number";
    case Tag::Generator:
      return "a generator";
    case Tag::Invalid:
      return string();
    case Tag::Argument:
    case Tag::SmallTensor:
      break;
  }
  return "an unknown value";
}
const at::Tensor* Decoder::tensor(const Parameter& parameter) {
  if (tag() != Tag::Tensor) {
    mismatch(parameter);
    return nullptr;
  }
  const TensorEntry* entry = environment_.tensors->handles.find(value());
  if (entry == nullptr) {
    fail("a live tensor", "a disposed tensor");
    return nullptr;
  }
  if (!has_memory(*entry)) {
    fail("a tensor with its memory", "one whose ArrayBuffer was transferred away");
    return nullptr;
  }
  ++position_;
  return &entry->tensor;
}

bool Decoder::integer(const Parameter& parameter, int64_t& out) {
  if (tag() == Tag::BigInt) {
    out = environment_.integers[position_];
  } else if (tag() == Tag::Number) {
    const double number = value();
    if (!is_integer(number)) {
      return fail("an integer (a bigint beyond 2^53)", "number " + number_text(number));
    }
    out = static_cast<int64_t>(number);
  } else {
    return mismatch(parameter);
  }
  ++position_;
  return true;
}

bool Decoder::real(const Parameter& parameter, double& out) {
  if (tag() == Tag::Number || tag() == Tag::Float) {
    out = value();
  } else if (tag() == Tag::BigInt) {
    out = static_cast<double>(environment_.integers[position_]);
  } else {
    return mismatch(parameter);
  }
  ++position_;
  return true;
}

bool Decoder::scalar(const Parameter& parameter, c10::IValue& out) {
  switch (tag()) {
    case Tag::Number: {
      // A number without a fraction is an int, as the same literal is in Python; a `Float` says
      // 2.0.
      const double number = value();
      if (number == std::trunc(number) && std::fabs(number) <= kSafeInteger &&
          !(number == 0 && std::signbit(number))) {
        out = static_cast<int64_t>(number);
      } else {
        out = number;
      }
      break;
    }
    case Tag::Float:
      out = value();
      break;
    case Tag::BigInt:
      out = environment_.integers[position_];
      break;
    case Tag::Bool:
      out = value() != 0;
      break;
    case Tag::Complex:
      out = c10::complex<double>(value(), environment_.values[position_ + 1]);
      ++position_;
      break;
    default:
      return mismatch(parameter);
  }
  ++position_;
  return true;
}

// A number where arithmetic wants a tensor: one without dimensions that leaves the dtype to the
// others.
bool Decoder::wrapped(const Parameter& parameter, c10::IValue& out) {
  c10::IValue number;
  if (!scalar(parameter, number)) return false;
  at::Tensor tensor = c10::scalar_to_tensor(number.toScalar());
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  out = std::move(tensor);
  return true;
}

// An enum of c10 by its Python name ('bfloat16', 'strided', …).
template <typename Lookup>
bool Decoder::named(const Parameter& parameter, c10::IValue& out, Lookup lookup) {
  if (tag() == Tag::String) {
    const std::optional<int64_t> index = lookup(string());
    if (!index) return mismatch(parameter);
    out = *index;
    ++position_;
    return true;
  }
  return mismatch(parameter);
}

bool Decoder::single(const Parameter& parameter, c10::IValue& out) {
  switch (parameter.kind) {
    case Kind::Tensor: {
      if (parameter.number_as_tensor && tag() != Tag::Tensor) return wrapped(parameter, out);
      const at::Tensor* found = tensor(parameter);
      if (found == nullptr) return false;
      out = *found;
      return true;
    }
    case Kind::Int: {
      int64_t number = 0;
      if (!integer(parameter, number)) return false;
      out = number;
      return true;
    }
    case Kind::Float: {
      double number = 0;
      if (!real(parameter, number)) return false;
      out = number;
      return true;
    }
    case Kind::Bool:
      if (tag() != Tag::Bool) return mismatch(parameter);
      out = value() != 0;
      ++position_;
      return true;
    case Kind::Scalar:
      return scalar(parameter, out);
    case Kind::String:
      if (tag() != Tag::String) return mismatch(parameter);
      out = environment_.string(value());
      ++position_;
      return true;
    case Kind::ScalarType:
      return named(parameter, out,
                   [this](const std::string& name) { return environment_.dtype_of(name); });
    case Kind::Layout:
      return named(parameter, out, layout_of);
    case Kind::MemoryFormat:
      return named(parameter, out, memory_format_of);
    case Kind::Device: {
      if (tag() != Tag::String) return mismatch(parameter);
      const std::optional<c10::Device> device = device_of(string());
      if (!device) return mismatch(parameter);
      out = *device;
      ++position_;
      return true;
    }
    case Kind::Generator: {
      const at::Generator* found =
          tag() == Tag::Generator ? environment_.generators.find(value()) : nullptr;
      if (found == nullptr) return mismatch(parameter);
      out = *found;
      ++position_;
      return true;
    }
    case Kind::Unsupported:
      return mismatch(parameter);
  }
  return false;
}
bool decode_arguments(Environment& environment, const Operator& op, size_t begin, size_t end,
                      torch::jit::Stack& stack) {
  Decoder decoder(environment, begin, end);
  for (const Parameter& parameter : op.parameters) {
    if (decoder.plain(parameter, stack)) continue;
    stack.emplace_back();
    if (decoder.at_end()) {
      // Trailing arguments that were not given.
      if (parameter.has_default) {
        stack.back() = parameter.default_value;
        continue;
      }
      if (parameter.optional) continue;
      environment.failure = {"E_ARGUMENT",       "",       op.name, parameter.name,
                             parameter.expected, "nothing"};
      return false;
    }
    if (!decoder.parameter(parameter, stack.back())) {
      environment.failure.code = "E_ARGUMENT";
      environment.failure.op = op.name;
      environment.failure.argument = parameter.name;
      return false;
    }
  }
  return true;
}

c10::IValue decode_result(Environment& environment, const Parameter& result, size_t& position) {
  Decoder decoder(environment, position, environment.capacity);
  c10::IValue value;
  TORCH_CHECK(decoder.parameter(result, value), "the JavaScript kernel returned ",
              environment.failure.received, " where its schema says ", result.type);
  position = decoder.position();
  return value;
}

}  // namespace vllm_ops
