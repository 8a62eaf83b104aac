// SPDX-License-Identifier: Apache-2.0
//
// The block types of ggml that we read: their numbers in GGUF files, and their sizes. Definition:
// GGUF's specification.
#pragma once

#include <cstdint>
#include <optional>

namespace vllm_ops {

/// ggml's own number of a type, as GGUF files hold it.
enum class GgmlType : int64_t {
  F32 = 0,
  F16 = 1,
  Q4_0 = 2,
  Q4_1 = 3,
  Q5_0 = 6,
  Q5_1 = 7,
  Q8_0 = 8,
  Q2_K = 10,
  Q3_K = 11,
  Q4_K = 12,
  Q5_K = 13,
  Q6_K = 14,
  BF16 = 30,
};

/// A type's unit: so many elements lie in so many bytes.
struct GgmlBlock {
  GgmlType type;
  int64_t elements, bytes;
};

/// The block of the type with this number, if it is one of GgmlType.
constexpr std::optional<GgmlBlock> ggml_block(int64_t number) {
  const auto type = static_cast<GgmlType>(number);
  switch (type) {
    case GgmlType::F32:
      return GgmlBlock{type, 1, 4};
    case GgmlType::F16:
      return GgmlBlock{type, 1, 2};
    case GgmlType::BF16:
      return GgmlBlock{type, 1, 2};
    case GgmlType::Q4_0:
      return GgmlBlock{type, 32, 18};
    case GgmlType::Q4_1:
      return GgmlBlock{type, 32, 20};
    case GgmlType::Q5_0:
      return GgmlBlock{type, 32, 22};
    case GgmlType::Q5_1:
      return GgmlBlock{type, 32, 24};
    case GgmlType::Q8_0:
      return GgmlBlock{type, 32, 34};
    case GgmlType::Q2_K:
      return GgmlBlock{type, 256, 84};
    case GgmlType::Q3_K:
      return GgmlBlock{type, 256, 110};
    case GgmlType::Q4_K:
      return GgmlBlock{type, 256, 144};
    case GgmlType::Q5_K:
      return GgmlBlock{type, 256, 176};
    case GgmlType::Q6_K:
      return GgmlBlock{type, 256, 210};
  }
  return std::nullopt;
}

}  // namespace vllm_ops
