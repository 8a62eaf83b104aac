// SPDX-License-Identifier: Apache-2.0
//
// From the dispatcher's calling convention on the stable ABI to a C++ function: what TORCH_BOX
// does, for vllm_ops::Tensor too. That types and numbers agree with the schema has been checked
// when the kernel was compiled.
#pragma once

#include <torch/csrc/stable/c/shim.h>
#include <torch/csrc/stable/library.h>
#include <vllm_ops/tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace vllm_ops::detail {

/// A string argument during a call: the caller's copy, which is ours to free. torch's own
/// conversion to std::string loses 48 bytes at each call (up to 2.13 and newer: it copies what it
/// has made by `new` and drops the pointer).
class HeldString {
 public:
  explicit HeldString(StringHandle handle) : handle_(handle) {}
  HeldString(HeldString&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  HeldString& operator=(HeldString&&) = delete;
  ~HeldString() {
    if (handle_ != nullptr) static_cast<void>(torch_delete_string(handle_));
  }

  operator std::string_view() const {
    std::size_t length = 0;
    const char* data = nullptr;
    TORCH_ERROR_CODE_CHECK(torch_string_length(handle_, &length));
    TORCH_ERROR_CODE_CHECK(torch_string_c_str(handle_, &data));
    return {data, length};
  }

 private:
  StringHandle handle_;
};

/// What an argument is held as during a call.
template <typename Parameter>
struct HeldAs {
  using Type = torch::stable::detail::unbox_type_t<Parameter>;
};
template <>
struct HeldAs<std::string_view> {
  using Type = HeldString;
};
template <typename Parameter>
using Held = typename HeldAs<Parameter>::Type;

/// Takes an argument over from the stack.
template <typename Value>
Value take(StableIValue value) {
  using torch::stable::detail::to;
  if constexpr (std::is_same_v<Value, Tensor>) {
    return Tensor(to<AtenTensorHandle>(value));
  } else if constexpr (std::is_same_v<Value, std::optional<Tensor>>) {
    const auto handle = to<std::optional<AtenTensorHandle>>(value);
    return handle ? std::optional<Tensor>(std::in_place, *handle) : std::nullopt;
  } else if constexpr (std::is_same_v<Value, HeldString>) {
    return HeldString(to<StringHandle>(value));
  } else {
    return to<Value>(value);
  }
}

template <auto Function>
struct Boxed;

template <typename Return, typename... Parameters, Return (*Function)(Parameters...)>
struct Boxed<Function> {
  static void call(StableIValue* stack, uint64_t, uint64_t) {
    call(stack, std::index_sequence_for<Parameters...>{});
  }

 private:
  template <std::size_t... I>
  static void call(StableIValue* stack, std::index_sequence<I...>) {
    // In braces, for they are taken in order then.
    std::tuple<Held<Parameters>...> arguments{take<Held<Parameters>>(stack[I])...};
    if constexpr (std::is_void_v<Return>)
      Function(std::get<I>(arguments)...);
    else
      put(stack, Function(std::get<I>(arguments)...));
  }

  template <typename Value>
  static void put(StableIValue* stack, const Value& value) {
    stack[0] = torch::stable::detail::from(value);
  }
  template <typename... Values>
  static void put(StableIValue* stack, const std::tuple<Values...>& values) {
    std::apply(
        [stack](const auto&... value) mutable {
          ((*stack++ = torch::stable::detail::from(value)), ...);
        },
        values);
  }
};

}  // namespace vllm_ops::detail
