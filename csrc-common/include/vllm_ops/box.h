// SPDX-License-Identifier: Apache-2.0
//
// From the dispatcher's calling convention on the stable ABI to a C++ function: what TORCH_BOX
// does, for vllm_ops::Tensor too. That types and numbers agree with the schema has been checked
// when the kernel was compiled.
#pragma once

#include <torch/csrc/stable/library.h>
#include <vllm_ops/tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

namespace vllm_ops::detail {

/// What an argument is held as during a call: std::string for std::string_view, and so on.
template <typename Parameter>
using Held = torch::stable::detail::unbox_type_t<Parameter>;

/// Takes an argument over from the stack.
template <typename Value>
Value take(StableIValue value) {
  using torch::stable::detail::to;
  if constexpr (std::is_same_v<Value, Tensor>) {
    return Tensor(to<AtenTensorHandle>(value));
  } else if constexpr (std::is_same_v<Value, std::optional<Tensor>>) {
    const auto handle = to<std::optional<AtenTensorHandle>>(value);
    return handle ? std::optional<Tensor>(std::in_place, *handle) : std::nullopt;
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
