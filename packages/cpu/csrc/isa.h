// SPDX-License-Identifier: Apache-2.0
//
// Which of the instruction sets that the kernels are compiled for is in use, and the declaration of
// kernels by which a launcher reaches the right one.
#pragma once

#include <vllm_ops/isas.h>

#include <array>
#include <cstddef>

namespace vllm_ops::cpu {

/// The instruction sets that this library is compiled for, best last.
enum class Isa : std::size_t {
#define VLLM_OPS_CPU_ENUMERATOR(isa, ...) isa,
  VLLM_OPS_EACH_ISA(VLLM_OPS_CPU_ENUMERATOR, )
#undef VLLM_OPS_CPU_ENUMERATOR
};

#define VLLM_OPS_CPU_ONE(...) +1
inline constexpr std::size_t kIsaCount = VLLM_OPS_EACH_ISA(VLLM_OPS_CPU_ONE, );
#undef VLLM_OPS_CPU_ONE

/// The instruction set in use: the best one that this CPU runs, or the one asked for by
/// VLLM_OPS_CPU_ISA or vllm_ops_set_isa. Throws when VLLM_OPS_CPU_ISA asks for one that is unknown
/// or does not run here.
Isa isa_in_use();

/// One kernel, compiled for every instruction set.
template <typename Function>
struct KernelSet {
  std::array<Function*, kIsaCount> by_isa;

  /// The kernel for the instruction set in use. Select before going parallel: it may throw.
  Function* select() const { return by_isa[static_cast<std::size_t>(isa_in_use())]; }
};

}  // namespace vllm_ops::cpu

#define VLLM_OPS_CPU_DECLARE(isa, name, ...) \
  namespace isa {                            \
  template <typename T>                      \
  void name(__VA_ARGS__);                    \
  }
#define VLLM_OPS_CPU_ADDRESS(isa, name, ...) &isa::name<T>,

/// Declares the kernel `template <typename T> void name(…)` of csrc/kernels as `kernels::name<T>`,
/// a KernelSet. Parameters other than those of its definition do not link. Use it in the namespace
/// vllm_ops::cpu.
#define VLLM_OPS_CPU_KERNEL(name, ...)                       \
  namespace kernels {                                        \
  VLLM_OPS_EACH_ISA(VLLM_OPS_CPU_DECLARE, name, __VA_ARGS__) \
  template <typename T>                                      \
  inline constexpr KernelSet<void(__VA_ARGS__)> name{        \
      {VLLM_OPS_EACH_ISA(VLLM_OPS_CPU_ADDRESS, name)}};      \
  }
