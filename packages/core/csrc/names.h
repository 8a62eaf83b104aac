// SPDX-License-Identifier: Apache-2.0
// What enumerators and values of c10 are called in JavaScript and in messages.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <optional>
#include <string>

namespace vllm_ops {

inline constexpr double kSafeInteger = 9007199254740991.0;  // Number.MAX_SAFE_INTEGER

// By their Python names ('strided', 'channels_last'); an index without one is nullptr.
std::optional<int64_t> layout_of(const std::string& name);
const char* layout_name(int64_t layout);
std::optional<int64_t> memory_format_of(const std::string& name);
const char* memory_format_name(int64_t format);

// 'cuda:1'; nothing for what is no device's name.
std::optional<c10::Device> device_of(const std::string& name);

// As JavaScript prints it, with all digits that matter.
std::string number_text(double value);

}  // namespace vllm_ops
