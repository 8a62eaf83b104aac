// SPDX-License-Identifier: Apache-2.0
//
// Registration of kernels in PyTorch's dispatcher by the stable ABI, each compared with its op's
// schema when it compiles. Schemas come from the op cards: the build writes them to
// vllm_ops/schemas.h (see cmake/schemas.cmake).
#pragma once

#include <torch/csrc/stable/library.h>
#include <vllm_ops/box.h>
#include <vllm_ops/schema.h>
#include <vllm_ops/schemas.h>

/// Registers the C++ function `function` as the kernel of `vllm_ops::op` at `dispatch_key` (CPU,
/// CUDA, …). Use it in the launcher's namespace, once for each op and key.
#define VLLM_OPS_KERNEL(dispatch_key, op, function)                                               \
  static_assert(                                                                                  \
      ::vllm_ops::schema::KernelMatchesSchema<                                                    \
          ::vllm_ops::schema::compare<decltype(function)>(::vllm_ops::schemas::op, #op).mismatch, \
          ::vllm_ops::schema::compare<decltype(function)>(::vllm_ops::schemas::op, #op)           \
              .position>::value);                                                                 \
  STABLE_TORCH_LIBRARY_IMPL(vllm_ops, dispatch_key, library) {                                    \
    library.impl(#op, &::vllm_ops::detail::Boxed<&function>::call);                               \
  }

/// Marks a C function that the kernel library exports; everything else in it is hidden.
#define VLLM_OPS_EXPORT extern "C" __attribute__((visibility("default")))

/// Defines the export by which @vllm-ops/core learns which schemas a kernel library was built with:
/// one a line, without namespace. Use it in one file of the library.
#define VLLM_OPS_EXPORT_SCHEMAS() \
  VLLM_OPS_EXPORT const char* vllm_ops_schemas(void) { return ::vllm_ops::schemas::all; }
