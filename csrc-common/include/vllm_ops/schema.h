// SPDX-License-Identifier: Apache-2.0
//
// Compile-time comparison of an op's schema string with the C++ function that implements it.
//
// The stable ABI's TORCH_BOX compares the number of arguments only, and that at the first call: a
// `float` in the schema over an `int64_t` in the kernel passes reinterpreted bits without a word.
// Here every argument's type, the marks of what is written (`Tensor(a!)` is a `Tensor&`, `Tensor` a
// `const Tensor&`) and the returns are compared while the kernel library compiles.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Layout.h>
#include <torch/headeronly/core/ScalarType.h>
#include <vllm_ops/tensor.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

namespace vllm_ops::schema {

/// What differs between a schema and a kernel. It shows up as a template argument in the compiler's
/// message.
enum class Mismatch {
  none,
  malformed_schema,
  op_name,
  argument_count,
  argument_type,
  argument_is_written,  // the schema marks it as written, or the kernel takes it as non-const, but
                        // not both
  return_count,
  return_type,
};

/// The first difference and the position (from 0) of the argument or return that it concerns.
struct Verdict {
  Mismatch mismatch = Mismatch::none;
  int position = 0;
};

namespace detail {

/// One argument or return of a schema: its type without alias annotation, and whether the op writes
/// it.
struct SchemaType {
  // Types are short ("ScalarType?", "Tensor[]"); a longer one is no type that a kernel could take.
  static constexpr std::size_t kMaxLength = 32;
  char text[kMaxLength] = {};
  std::size_t length = 0;
  bool written = false;
  bool valid = true;

  constexpr std::string_view view() const { return {text, length}; }
};

constexpr std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

/// Splits `(…)` off the front of `s` at its matching parenthesis; an empty result means that there
/// is none.
constexpr std::string_view take_parenthesised(std::string_view& s) {
  if (s.empty() || s.front() != '(') return {};
  int depth = 0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '(') ++depth;
    if (s[i] == ')' && --depth == 0) {
      const std::string_view inside = s.substr(0, i + 1);
      s.remove_prefix(i + 1);
      return inside;
    }
  }
  return {};
}

/// Splits the text before the next comma that stands outside all brackets off the front of `list`.
constexpr std::string_view take_item(std::string_view& list) {
  int depth = 0;
  std::size_t i = 0;
  for (; i < list.size(); ++i) {
    if (list[i] == '(' || list[i] == '[') ++depth;
    if (list[i] == ')' || list[i] == ']') --depth;
    if (list[i] == ',' && depth == 0) break;
  }
  const std::string_view item = trim(list.substr(0, i));
  list.remove_prefix(i < list.size() ? i + 1 : i);
  return item;
}

/// Reads `Tensor(a!)? name=default` or a bare return type: alias annotations are turned into
/// `written`, the number in `int[2]` and the argument's name are dropped.
constexpr SchemaType parse_type(std::string_view item) {
  SchemaType type;
  int depth = 0;
  bool in_brackets = false;
  for (const char c : item) {
    if (c == '(') {
      ++depth;
    } else if (c == ')') {
      --depth;
    } else if (depth > 0) {
      type.written = type.written || c == '!';
    } else if (c == ' ') {
      break;
    } else if (!(in_brackets && c >= '0' && c <= '9')) {
      if (c == '[' || c == ']') in_brackets = c == '[';
      if (type.length == SchemaType::kMaxLength) {
        type.valid = false;
        return type;
      }
      type.text[type.length++] = c;
    }
  }
  type.valid = depth == 0 && type.length > 0;
  return type;
}

template <typename T>
struct Tag {};

/// The spellings of a C++ type in a schema, `|` between them. A type without an overload cannot
/// cross the stable ABI.
consteval std::string_view spelling(Tag<vllm_ops::Tensor>) { return "Tensor"; }
consteval std::string_view spelling(Tag<torch::stable::Tensor>) { return "Tensor"; }
consteval std::string_view spelling(Tag<std::optional<vllm_ops::Tensor>>) { return "Tensor?"; }
consteval std::string_view spelling(Tag<std::optional<torch::stable::Tensor>>) { return "Tensor?"; }
consteval std::string_view spelling(Tag<std::vector<torch::stable::Tensor>>) { return "Tensor[]"; }
consteval std::string_view spelling(Tag<int64_t>) { return "int|SymInt"; }
consteval std::string_view spelling(Tag<std::optional<int64_t>>) { return "int?|SymInt?"; }
consteval std::string_view spelling(Tag<std::vector<int64_t>>) { return "int[]|SymInt[]"; }
consteval std::string_view spelling(Tag<double>) { return "float"; }
consteval std::string_view spelling(Tag<std::optional<double>>) { return "float?"; }
consteval std::string_view spelling(Tag<std::vector<double>>) { return "float[]"; }
consteval std::string_view spelling(Tag<bool>) { return "bool"; }
consteval std::string_view spelling(Tag<std::optional<bool>>) { return "bool?"; }
consteval std::string_view spelling(Tag<std::string_view>) { return "str"; }
consteval std::string_view spelling(Tag<std::string>) { return "str"; }
consteval std::string_view spelling(Tag<std::optional<std::string>>) { return "str?"; }
consteval std::string_view spelling(Tag<std::vector<std::string>>) { return "str[]"; }
consteval std::string_view spelling(Tag<torch::headeronly::ScalarType>) { return "ScalarType"; }
consteval std::string_view spelling(Tag<std::optional<torch::headeronly::ScalarType>>) {
  return "ScalarType?";
}
consteval std::string_view spelling(Tag<std::optional<torch::headeronly::Layout>>) {
  return "Layout?";
}
consteval std::string_view spelling(Tag<std::optional<torch::stable::Device>>) { return "Device?"; }

consteval bool is_one_of(std::string_view type, std::string_view spellings) {
  while (!spellings.empty()) {
    const std::size_t bar = spellings.find('|');
    if (type == spellings.substr(0, bar)) return true;
    if (bar == std::string_view::npos) return false;
    spellings.remove_prefix(bar + 1);
  }
  return false;
}

template <typename Parameter>
consteval Mismatch compare_type(const SchemaType& type) {
  using Value = std::remove_cvref_t<Parameter>;
  constexpr bool takes_mutable =
      std::is_lvalue_reference_v<Parameter> && !std::is_const_v<std::remove_reference_t<Parameter>>;
  if (!type.valid) return Mismatch::malformed_schema;
  if (!is_one_of(type.view(), spelling(Tag<Value>{}))) return Mismatch::argument_type;
  if (type.written != takes_mutable) return Mismatch::argument_is_written;
  return Mismatch::none;
}

template <typename Parameter>
consteval bool compare_next(std::string_view& list, int position, Verdict& verdict) {
  if (trim(list).empty()) {
    verdict = {Mismatch::argument_count, position};
    return false;
  }
  std::string_view item = take_item(list);
  if (item == "*") item = take_item(list);  // the mark before keyword-only arguments
  verdict = {compare_type<Parameter>(parse_type(item)), position};
  return verdict.mismatch == Mismatch::none;
}

template <typename... Types>
struct Returns {
  static consteval Verdict compare(std::string_view list) {
    Verdict verdict;
    int position = 0;
    static_cast<void>((compare_one<Types>(list, position++, verdict) && ...));
    if (verdict.mismatch == Mismatch::none && !trim(list).empty())
      verdict = {Mismatch::return_count, position};
    return verdict;
  }

 private:
  template <typename Type>
  static consteval bool compare_one(std::string_view& list, int position, Verdict& verdict) {
    if (trim(list).empty()) {
      verdict = {Mismatch::return_count, position};
    } else {
      const SchemaType type = parse_type(take_item(list));
      if (!type.valid)
        verdict = {Mismatch::malformed_schema, position};
      else if (!is_one_of(type.view(), spelling(Tag<Type>{})))
        verdict = {Mismatch::return_type, position};
    }
    return verdict.mismatch == Mismatch::none;
  }
};
template <>
struct Returns<void> : Returns<> {};
template <typename... Types>
struct Returns<std::tuple<Types...>> : Returns<Types...> {};

template <typename Function>
struct Signature;
template <typename Return, typename... Parameters>
struct Signature<Return(Parameters...)> {
  static consteval Verdict compare(std::string_view schema, std::string_view op) {
    const std::size_t open = schema.find('(');
    if (open == std::string_view::npos) return {Mismatch::malformed_schema};
    if (schema.substr(0, open) != op) return {Mismatch::op_name};
    schema.remove_prefix(open);
    std::string_view arguments = take_parenthesised(schema);
    const std::size_t arrow = schema.find("->");
    if (arguments.empty() || arrow == std::string_view::npos) return {Mismatch::malformed_schema};
    arguments = arguments.substr(1, arguments.size() - 2);

    Verdict verdict;
    int position = 0;
    static_cast<void>((compare_next<Parameters>(arguments, position++, verdict) && ...));
    if (verdict.mismatch != Mismatch::none) return verdict;
    if (!trim(arguments).empty()) return {Mismatch::argument_count, position};

    std::string_view returns = trim(schema.substr(arrow + 2));
    if (!returns.empty() && returns.front() == '(') returns = returns.substr(1, returns.size() - 2);
    return Returns<Return>::compare(returns);
  }
};

}  // namespace detail

/// Compares `schema` ("op(Tensor(a!) out, float x) -> ()") with the type of the C++ function for
/// the op named `op`.
template <typename Function>
consteval Verdict compare(std::string_view schema, std::string_view op) {
  return detail::Signature<Function>::compare(schema, op);
}

/// Instantiated with a Mismatch other than none, it stops the build; the template arguments in the
/// compiler's message say what differs and at which position, counted from 0.
template <Mismatch What, int Position>
struct KernelMatchesSchema {
  static_assert(What == Mismatch::none,
                "the C++ kernel differs from its op's schema: see the template arguments of "
                "KernelMatchesSchema");
  static constexpr bool value = true;
};

}  // namespace vllm_ops::schema
