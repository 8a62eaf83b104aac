// SPDX-License-Identifier: Apache-2.0
//
// Launcher of the linear layer for few tokens at a time. For many, aten's matrix products are the
// ones to call.

#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include <memory>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(skinny_linear_prepare, float* wide, const T* input, int64_t rows, int64_t width,
                    int64_t input_stride)
VLLM_OPS_CPU_KERNEL(skinny_linear, void* out, bool out_is_float, const T* input, const float* wide,
                    const T* weight, int64_t tokens, int64_t in, int64_t begin, int64_t end,
                    int64_t out_stride, int64_t input_stride, int64_t weight_stride)

void skinny_linear(Tensor& out, const Tensor& input, const Tensor& weight) {
  constexpr Check check("skinny_linear");
  const MutableView o = check.output("out", out);
  const View x = check.input("input", input), w = check.input("weight", weight);
  check.floating(x);
  check.rank(x, 2);
  const Rows x_rows = check.rows(x);
  check.same_dtype(w, x);
  check.rank(w, 2);
  check.size(w, 1, x.size(1), "the last dimension of 'input'");
  const Rows w_rows = check.rows(w);
  if (o.dtype != x.dtype && o.dtype != ScalarType::Float)
    check.fail("out", text("dtype ", dtype_name(x.dtype), " as in 'input', or float32"),
               dtype_name(o.dtype));
  check.rank(o, 2);
  check.size(o, 0, x.size(0), "the rows of 'input'");
  check.size(o, 1, w.size(0), "the rows of 'weight'");
  const Rows o_rows = check.rows(o);
  check.disjoint(o, x);
  check.disjoint(o, w);
  if (o.numel() == 0) return;

  const int64_t tokens = x.size(0), in = x.size(1);
  dispatch_floating(x.dtype, [&]<typename T>() {
    const auto prepare = kernels::skinny_linear_prepare<T>.select();
    const auto kernel = kernels::skinny_linear<T>.select();
    // The input is used again for every row of the weight, hence converted once.
    const std::unique_ptr<float[]> wide(std::is_same_v<T, float> ? nullptr
                                                                 : new float[tokens * in]);
    prepare(wide.get(), x.as<T>(), tokens, in, x_rows.stride);
    parallel_for_bytes(w_rows.count, in * x.itemsize, [&](int64_t begin, int64_t end) {
      kernel(o.as<void>(), o.dtype == ScalarType::Float, x.as<T>(), wide.get(), w.as<T>(), tokens,
             in, begin, end, o_rows.stride, x_rows.stride, w_rows.stride);
    });
  });
}
VLLM_OPS_KERNEL(CPU, skinny_linear, skinny_linear)

}  // namespace vllm_ops::cpu
