// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the activations: out[..., d] = act(input[..., :d]) * input[..., d:] of the gated
// ones, out = act(input) of the others. gelu_new and gelu_fast are one formula.

#include <vllm_ops/check.h>
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
void run(const MutableView& out, const Rows& out_rows, const View& in, const Rows& in_rows,
         bool past_caches, const KernelOf& kernel_of) {
  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto kernel = kernel_of.template operator()<T>().select();
    const int64_t bytes = (in_rows.width + out_rows.width) * in.itemsize;
    parallel_for_bytes(out_rows.count, bytes, [&](int64_t begin, int64_t end) {
      kernel(out.as<T>() + begin * out_rows.stride, in.as<T>() + begin * in_rows.stride,
             end - begin, out_rows.width, out_rows.stride, in_rows.stride, past_caches);
    });
  });
}

template <typename KernelOf>
void run_gated(const Check& check, Tensor& out, const Tensor& input, const KernelOf& kernel_of) {
  const View in = check.input("input", input);
  const MutableView o = check.output("out", out);
  check.floating(in);
  check.same_dtype(o, in);
  const Rows in_rows = check.rows(in);
  if (in_rows.width % 2 != 0)
    check.fail("input", "an even size of the last dimension", text("shape ", in.shape()));
  check.rank(o, in.dim);
  for (int64_t d = 0; d + 1 < in.dim; ++d) check.size(o, d, in.size(d), "as in 'input'");
  check.size(o, in.dim - 1, in_rows.width / 2, "half the width of 'input'");
  const Rows out_rows = check.rows(o);
  check.disjoint(o, in);
  if (o.numel() > 0) run(o, out_rows, in, in_rows, exceeds_caches(o), kernel_of);
}

template <typename KernelOf>
void run_plain(const Check& check, Tensor& out, const Tensor& input, const KernelOf& kernel_of) {
  const View in = check.input("input", input);
  const MutableView o = check.output("out", out);
  check.floating(in);
  check.same_dtype(o, in);
  const Rows in_rows = check.rows(in);
  check.same_shape(o, in);
  const Rows out_rows = check.rows(o);
  check.disjoint_or_same(o, in);
  if (o.numel() > 0)
    run(o, out_rows, in, in_rows, o.data != in.data && exceeds_caches(o), kernel_of);
}

}  // namespace

/// Defines and registers the launcher of `op` by one of the two above and the kernel's name.
#define VLLM_OPS_CPU_ACTIVATION(op, run_rows, kernel)                                  \
  void op(Tensor& out, const Tensor& input) {                                          \
    run_rows(Check(#op), out, input, []<typename T>() { return kernels::kernel<T>; }); \
  }                                                                                    \
  VLLM_OPS_KERNEL(CPU, op, op)

VLLM_OPS_CPU_ACTIVATION(silu_and_mul, run_gated, silu_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_and_mul, run_gated, gelu_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_tanh_and_mul, run_gated, gelu_tanh_and_mul)
VLLM_OPS_CPU_ACTIVATION(gelu_new, run_plain, gelu_tanh)
VLLM_OPS_CPU_ACTIVATION(gelu_fast, run_plain, gelu_tanh)
VLLM_OPS_CPU_ACTIVATION(gelu_quick, run_plain, gelu_quick)
#undef VLLM_OPS_CPU_ACTIVATION

}  // namespace vllm_ops::cpu
