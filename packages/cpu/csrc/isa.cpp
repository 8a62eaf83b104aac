// SPDX-License-Identifier: Apache-2.0

#include "isa.h"

#include <vllm_ops/kernel.h>

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace vllm_ops::cpu {
namespace {

constexpr std::array<const char*, kIsaCount> kNames = {
#define VLLM_OPS_CPU_NAME(isa, ...) #isa,
    VLLM_OPS_EACH_ISA(VLLM_OPS_CPU_NAME, )
#undef VLLM_OPS_CPU_NAME
};

/// Whether this CPU, and the operating system that saves its registers, run what was compiled for
/// `name`. The features are those of the -march levels in csrc-common/cmake/isa.cmake.
bool runnable(std::string_view name) {
#if defined(__x86_64__)
  if (name == "avx2")
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt") &&
           __builtin_cpu_supports("movbe");
  if (name == "avx512")
    return runnable("avx2") && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (name == "avx512_bf16") return runnable("avx512") && __builtin_cpu_supports("avx512bf16");
#endif
  return name == "baseline";
}

constexpr std::size_t kUnusable = kIsaCount;

/// The position in kNames of a runnable instruction set; kUnusable for any other name.
std::size_t find(std::string_view name) {
  for (std::size_t i = 0; i < kIsaCount; ++i)
    if (name == kNames[i] && runnable(name)) return i;
  return kUnusable;
}

std::size_t choose() {
  if (const char* forced = std::getenv("VLLM_OPS_CPU_ISA"); forced != nullptr && *forced != '\0')
    return find(forced);
  std::size_t best = 0;
  for (std::size_t i = 1; i < kIsaCount; ++i)
    if (runnable(kNames[i])) best = i;
  return best;
}

std::atomic<std::size_t>& in_use() {
  static std::atomic<std::size_t> position{choose()};
  return position;
}

const std::string& runnable_names() {
  static const std::string names = [] {
    std::string joined;
    for (const char* name : kNames) {
      if (!runnable(name)) continue;
      if (!joined.empty()) joined += ',';
      joined += name;
    }
    return joined;
  }();
  return names;
}

}  // namespace

Isa isa_in_use() {
  const std::size_t position = in_use().load(std::memory_order_relaxed);
  if (position == kUnusable) {
    const char* forced = std::getenv("VLLM_OPS_CPU_ISA");
    throw std::runtime_error(
        "VLLM_OPS_CPU_ISA is '" + std::string(forced ? forced : "") +
        "', which is not one of the instruction sets that run here: " + runnable_names());
  }
  return static_cast<Isa>(position);
}

}  // namespace vllm_ops::cpu

VLLM_OPS_EXPORT_SCHEMAS()

/// The instruction set in use; an empty text when VLLM_OPS_CPU_ISA asks for one that is unknown or
/// does not run here.
VLLM_OPS_EXPORT const char* vllm_ops_isa(void) {
  using namespace vllm_ops::cpu;
  const std::size_t position = in_use().load(std::memory_order_relaxed);
  return position == kUnusable ? "" : kNames[position];
}

/// The instruction sets that are compiled and run here, comma-separated, best last.
VLLM_OPS_EXPORT const char* vllm_ops_isas(void) { return vllm_ops::cpu::runnable_names().c_str(); }

/// Uses another instruction set for the calls that begin from now on: 0, or 1 when it is unknown or
/// does not run here.
VLLM_OPS_EXPORT int vllm_ops_set_isa(const char* name) {
  using namespace vllm_ops::cpu;
  const std::size_t position = name == nullptr ? kUnusable : find(name);
  if (position == kUnusable) return 1;
  in_use().store(position, std::memory_order_relaxed);
  return 0;
}
