// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the root-mean-square norms: x / sqrt(mean(x²) + epsilon) * weight over the last
// dimension.

#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(rms_norm, T* out, const T* input, const T* weight, float epsilon, int64_t rows,
                    int64_t width, int64_t out_stride, int64_t input_stride, bool past_caches)

VLLM_OPS_CPU_KERNEL(fused_add_rms_norm, T* input, T* residual, const T* weight, float epsilon,
                    int64_t rows, int64_t width, int64_t input_stride, int64_t residual_stride)

namespace {

void check_weight(const Check& check, const View& weight, const View& input) {
  check.same_dtype(weight, input);
  check.rank(weight, 1);
  check.size(weight, 0, input.size(-1), "the last dimension of 'input'");
  check.contiguous(weight);
}

}  // namespace

void rms_norm(Tensor& out, const Tensor& input, const Tensor& weight, double epsilon) {
  constexpr Check check("rms_norm");
  const View in = check.input("input", input), w = check.input("weight", weight);
  const MutableView o = check.output("out", out);
  check.floating(in);
  check.same_dtype(o, in);
  check.same_shape(o, in);
  const Rows in_rows = check.rows(in), out_rows = check.rows(o);
  check_weight(check, w, in);
  check.disjoint_or_same(o, in);
  check.disjoint(o, w);
  if (o.numel() == 0) return;

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
  const MutableView in = check.output("input", input), res = check.output("residual", residual);
  const View w = check.input("weight", weight);
  check.floating(in);
  check.same_dtype(res, in);
  check.same_shape(res, in);
  const Rows in_rows = check.rows(in), res_rows = check.rows(res);
  check_weight(check, w, in);
  check.disjoint(res, in);
  check.disjoint(in, w);
  check.disjoint(res, w);
  if (in.numel() == 0) return;

  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto kernel = kernels::fused_add_rms_norm<T>.select();
    parallel_for_bytes(
        in_rows.count, 4 * in_rows.width * in.itemsize, [&](int64_t begin, int64_t end) {
          kernel(in.as<T>() + begin * in_rows.stride, res.as<T>() + begin * res_rows.stride,
                 w.as<T>(), static_cast<float>(epsilon), end - begin, in_rows.width, in_rows.stride,
                 res_rows.stride);
        });
  });
}
VLLM_OPS_KERNEL(CPU, fused_add_rms_norm, fused_add_rms_norm)

}  // namespace vllm_ops::cpu
