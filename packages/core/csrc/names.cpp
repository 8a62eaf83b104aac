// SPDX-License-Identifier: Apache-2.0

#include "names.h"

#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>

#include <cmath>
#include <sstream>

namespace vllm_ops {
namespace {

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

template <size_t N>
const char* name_at(const char* const (&names)[N], int64_t index) {
  return index >= 0 && index < static_cast<int64_t>(N) ? names[index] : nullptr;
}

}  // namespace

std::optional<int64_t> layout_of(const std::string& name) { return index_of(kLayouts, name); }
const char* layout_name(int64_t layout) { return name_at(kLayouts, layout); }

std::optional<int64_t> memory_format_of(const std::string& name) {
  return index_of(kMemoryFormats, name);
}
const char* memory_format_name(int64_t format) { return name_at(kMemoryFormats, format); }

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

}  // namespace vllm_ops
