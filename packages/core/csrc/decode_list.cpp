// SPDX-License-Identifier: Apache-2.0
// Lists out of the argument buffer.

#include "decoder.h"

namespace vllm_ops {

bool Decoder::list(const Parameter& parameter, c10::IValue& out) {
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

template <typename T>
bool Decoder::typed_list(const Parameter& parameter, size_t count, c10::IValue& out) {
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

bool Decoder::items(const Parameter& parameter, size_t count, c10::IValue& out) {
  switch (parameter.kind) {
    case Kind::Tensor:
      return parameter.optional_elements ? optional_tensors(parameter, count, out)
                                         : tensors(parameter, count, out);
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

bool Decoder::tensors(const Parameter& parameter, size_t count, c10::IValue& out) {
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

bool Decoder::optional_tensors(const Parameter& parameter, size_t count, c10::IValue& out) {
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

// `int[2] kernel_size` takes `3` for `[3, 3]`, as Python does.
bool Decoder::broadcast(const Parameter& parameter, c10::IValue& out) {
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

}  // namespace vllm_ops
