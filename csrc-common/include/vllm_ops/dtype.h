// SPDX-License-Identifier: Apache-2.0
//
// Data types: their names as users write them, and the switch from a run-time dtype to a C++ type.
#pragma once

#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <utility>

namespace vllm_ops {

using torch::headeronly::ScalarType;

/// The dtype's name as PyTorch and @vllm-ops/core spell it ("bfloat16").
inline const char* dtype_name(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Long:
      return "int64";
    case ScalarType::UInt16:
      return "uint16";
    case ScalarType::UInt32:
      return "uint32";
    case ScalarType::UInt64:
      return "uint64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::ComplexHalf:
      return "complex32";
    case ScalarType::ComplexFloat:
      return "complex64";
    case ScalarType::ComplexDouble:
      return "complex128";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::Float8_e4m3fn:
      return "float8_e4m3fn";
    case ScalarType::Float8_e5m2:
      return "float8_e5m2";
    default:
      return torch::headeronly::toString(dtype);
  }
}

/// Calls `body.template operator()<T>()` with the C++ type of a floating-point dtype that our
/// kernels compute in: float32, float16 or bfloat16. Whoever calls it has checked the dtype
/// (Check::floating).
template <typename Body>
decltype(auto) dispatch_floating(ScalarType dtype, Body&& body) {
  switch (dtype) {
    case ScalarType::Half:
      return std::forward<Body>(body).template operator()<c10::Half>();
    case ScalarType::BFloat16:
      return std::forward<Body>(body).template operator()<c10::BFloat16>();
    default:
      return std::forward<Body>(body).template operator()<float>();
  }
}

}  // namespace vllm_ops
