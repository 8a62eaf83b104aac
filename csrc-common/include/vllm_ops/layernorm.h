// SPDX-License-Identifier: Apache-2.0
//
// What the norms check on every device. `AnyCheck` is Check, or one that looks at devices too.
#pragma once

#include <vllm_ops/check.h>

namespace vllm_ops {

namespace detail {

inline void check_norm_weight(const Check& check, const View& weight, const View& input) {
  check.same_dtype(weight, input);
  check.rank(weight, 1);
  check.size(weight, 0, input.size(-1), "the last dimension of 'input'");
  check.contiguous(weight);
}

}  // namespace detail

/// A checked call of rms_norm.
struct RmsNormCall {
  View input, weight;
  MutableView out;
  Rows input_rows, out_rows;

  bool empty() const { return out.numel() == 0; }
};

template <typename AnyCheck>
RmsNormCall check_rms_norm(AnyCheck& check, Tensor& out, const Tensor& input,
                           const Tensor& weight) {
  RmsNormCall call{
      check.input("input", input), check.input("weight", weight), check.output("out", out), {}, {}};
  check.floating(call.input);
  check.same_dtype(call.out, call.input);
  check.same_shape(call.out, call.input);
  call.input_rows = check.rows(call.input);
  call.out_rows = check.rows(call.out);
  detail::check_norm_weight(check, call.weight, call.input);
  check.disjoint_or_same(call.out, call.input);
  check.disjoint(call.out, call.weight);
  return call;
}

/// A checked call of fused_add_rms_norm.
struct FusedAddRmsNormCall {
  MutableView input, residual;
  View weight;
  Rows input_rows, residual_rows;

  bool empty() const { return input.numel() == 0; }
};

template <typename AnyCheck>
FusedAddRmsNormCall check_fused_add_rms_norm(AnyCheck& check, Tensor& input, Tensor& residual,
                                             const Tensor& weight) {
  FusedAddRmsNormCall call{check.output("input", input),
                           check.output("residual", residual),
                           check.input("weight", weight),
                           {},
                           {}};
  check.floating(call.input);
  check.same_dtype(call.residual, call.input);
  check.same_shape(call.residual, call.input);
  call.input_rows = check.rows(call.input);
  call.residual_rows = check.rows(call.residual);
  detail::check_norm_weight(check, call.weight, call.input);
  check.disjoint(call.residual, call.input);
  check.disjoint(call.input, call.weight);
  check.disjoint(call.residual, call.weight);
  return call;
}

}  // namespace vllm_ops
