// SPDX-License-Identifier: Apache-2.0
//
// What skinny_linear checks of its arguments on every device.
#pragma once

#include <vllm_ops/check.h>
#include <vllm_ops/tensor.h>

namespace vllm_ops {

/// out [tokens, outputs] = input [tokens, inputs] weight [outputs, inputs]^T, and their rows.
struct CheckedLinear {
  MutableView out;
  View input, weight;
  Rows out_rows, input_rows, weight_rows;
};

/// `check` is a Check, or one that knows more of where tensors may be.
template <typename AnyCheck>
CheckedLinear check_linear(AnyCheck& check, Tensor& out, const Tensor& input,
                           const Tensor& weight) {
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
  return {o, x, w, o_rows, x_rows, w_rows};
}

}  // namespace vllm_ops
