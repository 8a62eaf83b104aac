// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the activations: out[..., d] = act(input[..., :d]) * input[..., d:] of the gated
// ones, out = act(input) of the others. gelu_new and gelu_fast are one formula.

#include <vllm_ops/activation.h>
#include <vllm_ops/kernel.h>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

#define VLLM_OPS_CPU_ACTIVATION(name)                                            \
  VLLM_OPS_CPU_KERNEL(name, T* out, const T* input, int64_t rows, int64_t width, \
                      int64_t out_stride, int64_t input_stride, bool past_caches)
VLLM_OPS_CPU_ACTIVATION(silu_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_tanh_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_tanh)
VLLM_OPS_CPU_ACTIVATION(gelu_quick)
#undef VLLM_OPS_CPU_ACTIVATION

namespace {

/// Runs the kernel that `kernel_of.template operator()<T>()` gives on rows of both tensors.
template <typename KernelOf>
void run(const ActivationCall& call, const KernelOf& kernel_of) {
  if (call.empty()) return;
  const View& in = call.input;
  const MutableView& out = call.out;
  const int64_t width = call.out_rows.width, out_stride = call.out_rows.stride,
                in_stride = call.input_rows.stride;
  const bool past_caches = out.data != in.data && exceeds_caches(out);
  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto kernel = kernel_of.template operator()<T>().select();
    const int64_t bytes = (call.input_rows.width + width) * in.itemsize;
    parallel_for_bytes(call.out_rows.count, bytes, [&](int64_t begin, int64_t end) {
      kernel(out.as<T>() + begin * out_stride, in.as<T>() + begin * in_stride, end - begin, width,
             out_stride, in_stride, past_caches);
    });
  });
}

}  // namespace

/// Defines and registers the launcher of `op` by its checks and its kernel's name.
#define VLLM_OPS_CPU_ACTIVATION(op, check_call, kernel)                                  \
  void op(Tensor& out, const Tensor& input) {                                            \
    constexpr Check check(#op);                                                          \
    run(check_call(check, out, input), []<typename T>() { return kernels::kernel<T>; }); \
  }                                                                                      \
  VLLM_OPS_KERNEL(CPU, op, op)

VLLM_OPS_CPU_ACTIVATION(silu_and_mul, check_gated_activation, silu_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_and_mul, check_gated_activation, gelu_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_tanh_and_mul, check_gated_activation, gelu_tanh_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_new, check_activation, gelu_tanh)
VLLM_OPS_CPU_ACTIVATION(gelu_fast, check_activation, gelu_tanh)
VLLM_OPS_CPU_ACTIVATION(gelu_quick, check_activation, gelu_quick)
#undef VLLM_OPS_CPU_ACTIVATION

}  // namespace vllm_ops::cpu
