// SPDX-License-Identifier: Apache-2.0
//
// A kernel in the namespace of the instruction set that it is compiled for.
namespace demo::VLLM_OPS_ISA_NAMESPACE {
__attribute__((noinline)) int twice(int x) { return 2 * x; }
}  // namespace demo::VLLM_OPS_ISA_NAMESPACE
