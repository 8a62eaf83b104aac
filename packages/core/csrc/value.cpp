// SPDX-License-Identifier: Apache-2.0

#include "value.h"

#include <ATen/ScalarOps.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>

#include <cmath>
#include <sstream>

namespace vllm_ops {
namespace {

constexpr double kSafeInteger = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER
constexpr const char* kLayouts[] = {"strided",    "sparse_coo", "sparse_csr", "_mkldnn",
                                    "sparse_csc", "sparse_bsr", "sparse_bsc", "jagged"};
constexpr const char* kMemoryFormats[] = {"contiguous_format", "preserve_format", "channels_last",
                                          "channels_last_3d"};

template <size_t N>
std::optional<int64_t> index_of(const char* const (&names)[N], const std::string& name) {
  for (size_t i = 0; i < N; ++i) {
    if (name == names[i]) return static_cast<int64_t>(i);
  }
  return std::nullopt;
}

std::string number_text(double value) {
  std::ostringstream stream;
  stream.precision(17);
  if (value == std::floor(value) && std::fabs(value) < 1e15) {
    stream << static_cast<int64_t>(value);
  } else {
    stream << value;
  }
  return stream.str();
}

// c10::Device reads the index into 8 bits without a look at the rest.
std::optional<c10::Device> device_of(const std::string& name) {
  try {
    const size_t colon = name.find(':');
    if (colon != std::string::npos && name.size() > colon + 4) return std::nullopt;
    if (colon != std::string::npos && std::stoi(name.substr(colon + 1)) > 127) return std::nullopt;
    return c10::Device(name);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

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
  bool parameter(const Parameter& parameter, c10::IValue& out) {
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

  std::string describe() const {
    switch (tag()) {
      case Tag::None:
        return "null";
      case Tag::Absent:
        return "nothing";
      case Tag::Tensor: {
        const TensorEntry* entry = environment_.tensors->handles.find(value());
        return entry == nullptr ? "a disposed tensor"
                                : describe_tensor(environment_, entry->tensor);
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

  const std::string& string() const { return environment_.string(value()).toStringRef(); }

  // The tensor at the cursor; nullptr after a failure.
  const at::Tensor* tensor(const Parameter& parameter) {
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

  bool integer(const Parameter& parameter, int64_t& out) {
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

  bool real(const Parameter& parameter, double& out) {
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

  bool scalar(const Parameter& parameter, c10::IValue& out) {
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
  bool wrapped(const Parameter& parameter, c10::IValue& out) {
    c10::IValue number;
    if (!scalar(parameter, number)) return false;
    at::Tensor tensor = c10::scalar_to_tensor(number.toScalar());
    tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
    out = std::move(tensor);
    return true;
  }

  // An enum of c10 by its Python name ('bfloat16', 'strided', …).
  template <typename Lookup>
  bool named(const Parameter& parameter, c10::IValue& out, Lookup lookup) {
    if (tag() == Tag::String) {
      const std::optional<int64_t> index = lookup(string());
      if (!index) return mismatch(parameter);
      out = *index;
      ++position_;
      return true;
    }
    return mismatch(parameter);
  }

  std::optional<int64_t> scalar_type(const std::string& name) const {
    for (const auto& [known, type] : environment_.dtypes) {
      if (known == name) return static_cast<int64_t>(type);
    }
    return std::nullopt;
  }

  bool single(const Parameter& parameter, c10::IValue& out) {
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
        return named(parameter, out, [this](const std::string& name) { return scalar_type(name); });
      case Kind::Layout:
        return named(parameter, out,
                     [](const std::string& name) { return index_of(kLayouts, name); });
      case Kind::MemoryFormat:
        return named(parameter, out,
                     [](const std::string& name) { return index_of(kMemoryFormats, name); });
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

  bool list(const Parameter& parameter, c10::IValue& out) {
    size_t count = 0;
    if (tag() == Tag::List) {
      count = static_cast<size_t>(value());
      ++position_;
    } else if (parameter.length && (parameter.kind == Kind::Int || parameter.kind == Kind::Float ||
                                    parameter.kind == Kind::Bool)) {
      return broadcast(parameter, out);
    } else {
      return mismatch(parameter);
    }
    item_ = 0;
    const bool read = items(parameter, count, out);
    item_ = -1;
    return read;
  }

  bool items(const Parameter& parameter, size_t count, c10::IValue& out) {
    switch (parameter.kind) {
      case Kind::Tensor: {
        if (parameter.optional_elements) {
          c10::List<std::optional<at::Tensor>> items;
          items.reserve(count);
          for (size_t i = 0; i < count; ++i, ++item_) {
            if (tag() == Tag::None) {
              ++position_;
              items.push_back(std::nullopt);
              continue;
            }
            const at::Tensor* found = tensor(parameter);
            if (found == nullptr) return false;
            items.push_back(*found);
          }
          out = std::move(items);
          return true;
        }
        c10::List<at::Tensor> items;
        items.reserve(count);
        for (size_t i = 0; i < count; ++i, ++item_) {
          const at::Tensor* found = tensor(parameter);
          if (found == nullptr) return false;
          items.push_back(*found);
        }
        out = std::move(items);
        return true;
      }
      case Kind::Int:
        return typed_list<int64_t>(parameter, count, out);
      case Kind::Float:
        return typed_list<double>(parameter, count, out);
      case Kind::Bool:
        return typed_list<bool>(parameter, count, out);
      case Kind::String:
        return typed_list<std::string>(parameter, count, out);
      default: {
        c10::impl::GenericList items(parameter.element);
        items.reserve(count);
        for (size_t i = 0; i < count; ++i, ++item_) {
          c10::IValue item;
          if (!single(parameter, item)) return false;
          items.push_back(std::move(item));
        }
        out = std::move(items);
        return true;
      }
    }
  }

  template <typename T>
  bool typed_list(const Parameter& parameter, size_t count, c10::IValue& out) {
    c10::List<T> items;
    items.reserve(count);
    for (size_t i = 0; i < count; ++i, ++item_) {
      c10::IValue item;
      if (!single(parameter, item)) return false;
      items.push_back(item.to<T>());
    }
    out = std::move(items);
    return true;
  }

  // `int[2] kernel_size` takes `3` for `[3, 3]`, as Python does.
  bool broadcast(const Parameter& parameter, c10::IValue& out) {
    c10::IValue item;
    if (!single(parameter, item)) return false;
    const auto count = static_cast<size_t>(*parameter.length);
    if (parameter.kind == Kind::Int) {
      out = c10::List<int64_t>(std::vector<int64_t>(count, item.toInt()));
    } else if (parameter.kind == Kind::Float) {
      out = c10::List<double>(std::vector<double>(count, item.toDouble()));
    } else {
      c10::List<bool> items;
      for (size_t i = 0; i < count; ++i) items.push_back(item.toBool());
      out = std::move(items);
    }
    return true;
  }

  Environment& environment_;
  size_t position_;
  size_t end_;
  int64_t item_ = -1;  // of the list that is being read
};

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

template <size_t N>
bool put_enum(Environment& environment, size_t position, const char* const (&names)[N],
              int64_t index) {
  if (index < 0 || index >= static_cast<int64_t>(N)) return false;
  put_name(environment, position, names[index]);
  return true;
}

void put_int(Environment& environment, size_t position, Kind kind, int64_t value) {
  if (kind == Kind::ScalarType) {
    put_name(environment, position, environment.dtype_name(static_cast<c10::ScalarType>(value)));
  } else if (kind == Kind::Layout && put_enum(environment, position, kLayouts, value)) {
    return;
  } else if (kind == Kind::MemoryFormat && put_enum(environment, position, kMemoryFormats, value)) {
    return;
  } else {
    put_integer(environment, position, value);
  }
}

}  // namespace

std::string describe_tensor(const Environment& environment, const at::Tensor& tensor) {
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

c10::IValue decode_result(Environment& environment, const Parameter& result, size_t& position) {
  Decoder decoder(environment, position, environment.capacity);
  c10::IValue value;
  TORCH_CHECK(decoder.parameter(result, value), "the JavaScript kernel returned ",
              environment.failure.received, " where its schema says ", result.type);
  position = decoder.position();
  return value;
}

}  // namespace vllm_ops
