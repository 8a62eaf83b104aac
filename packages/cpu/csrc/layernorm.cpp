// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the root-mean-square norms: x / sqrt(mean(x²) + epsilon) * weight over the last
// dimension.

#include <vllm_ops/kernel.h>
#include <vllm_ops/layernorm.h>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(rms_norm, T* out, const T* input, const T* weight, float epsilon, int64_t rows,
                    int64_t width, int64_t out_stride, int64_t input_stride, bool past_caches)

VLLM_OPS_CPU_KERNEL(fused_add_rms_norm, T* input, T* residual, const T* weight, float epsilon,
                    int64_t rows, int64_t width, int64_t input_stride, int64_t residual_stride)

void rms_norm(Tensor& out, const Tensor& input, const Tensor& weight, double epsilon) {
  constexpr Check check("rms_norm");
  const RmsNormCall call = check_rms_norm(check, out, input, weight);
  if (call.empty()) return;

  const View &in = call.input, &w = call.weight;
  const MutableView& o = call.out;
  const Rows &in_rows = call.input_rows, &out_rows = call.out_rows;
  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto kernel = kernels::rms_norm<T>.select();
    parallel_for_bytes(
        in_rows.count, 2 * in_rows.width * in.itemsize, [&](int64_t begin, int64_t end) {
          kernel(o.as<T>() + begin * out_rows.stride, in.as<T>() + begin * in_rows.stride,
                 w.as<T>(), static_cast<float>(epsilon), end - begin, in_rows.width,
                 out_rows.stride, in_rows.stride, o.data != in.data && exceeds_caches(o));
        });
  });
}
VLLM_OPS_KERNEL(CPU, rms_norm, rms_norm)

void fused_add_rms_norm(Tensor& input, Tensor& residual, const Tensor& weight, double epsilon) {
  constexpr Check check("fused_add_rms_norm");
  const FusedAddRmsNormCall call = check_fused_add_rms_norm(check, input, residual, weight);
  if (call.empty()) return;

  const MutableView &in = call.input, &res = call.residual;
  const Rows &in_rows = call.input_rows, &res_rows = call.residual_rows;
  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto kernel = kernels::fused_add_rms_norm<T>.select();
    parallel_for_bytes(
        in_rows.count, 4 * in_rows.width * in.itemsize, [&](int64_t begin, int64_t end) {
          kernel(in.as<T>() + begin * in_rows.stride, res.as<T>() + begin * res_rows.stride,
                 call.weight.as<T>(), static_cast<float>(epsilon), end - begin, in_rows.width,
                 in_rows.stride, res_rows.stride);
        });
  });
}
VLLM_OPS_KERNEL(CPU, fused_add_rms_norm, fused_add_rms_norm)

}  // namespace vllm_ops::cpu
