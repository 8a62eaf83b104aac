// SPDX-License-Identifier: Apache-2.0
//
// Launcher of the linear layer for few tokens at a time. For many, aten's matrix products are the
// ones to call.

#include <vllm_ops/kernel.h>
#include <vllm_ops/linear.h>

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
  const auto [o, x, w, o_rows, x_rows, w_rows] = check_linear(check, out, input, weight);
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
