// SPDX-License-Identifier: Apache-2.0
//
// An inline function outside that namespace: the linker would keep one copy of it for all
// instruction sets.
inline __attribute__((noinline)) int twice(int x) { return 2 * x; }

namespace demo::VLLM_OPS_ISA_NAMESPACE {
int four_times(int x) { return twice(twice(x)); }
}  // namespace demo::VLLM_OPS_ISA_NAMESPACE
