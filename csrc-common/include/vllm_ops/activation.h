// SPDX-License-Identifier: Apache-2.0
//
// What the activations check on every device. `AnyCheck` is Check, or one that looks at devices
// too.
#pragma once

#include <vllm_ops/check.h>

namespace vllm_ops {

/// A checked call of an activation.
struct ActivationCall {
  View input;  // rows of out's width, gated ones of twice that
  MutableView out;
  Rows input_rows, out_rows;

  bool empty() const { return out.numel() == 0; }
};

namespace detail {

template <typename AnyCheck>
ActivationCall read_activation(AnyCheck& check, Tensor& out, const Tensor& input) {
  ActivationCall call{check.input("input", input), check.output("out", out), {}, {}};
  check.floating(call.input);
  check.same_dtype(call.out, call.input);
  call.input_rows = check.rows(call.input);
  return call;
}

}  // namespace detail

/// out[..., d] = act(input[..., :d]) * input[..., d:]
template <typename AnyCheck>
ActivationCall check_gated_activation(AnyCheck& check, Tensor& out, const Tensor& input) {
  ActivationCall call = detail::read_activation(check, out, input);
  const View& in = call.input;
  const MutableView& o = call.out;
  if (call.input_rows.width % 2 != 0)
    check.fail("input", "an even size of the last dimension", text("shape ", in.shape()));
  check.rank(o, in.dim);
  for (int64_t d = 0; d + 1 < in.dim; ++d) check.size(o, d, in.size(d), "as in 'input'");
  check.size(o, in.dim - 1, call.input_rows.width / 2, "half the width of 'input'");
  call.out_rows = check.rows(o);
  check.disjoint(o, in);
  return call;
}

/// out = act(input); out may be input itself.
template <typename AnyCheck>
ActivationCall check_activation(AnyCheck& check, Tensor& out, const Tensor& input) {
  ActivationCall call = detail::read_activation(check, out, input);
  check.same_shape(call.out, call.input);
  call.out_rows = check.rows(call.out);
  check.disjoint_or_same(call.out, call.input);
  return call;
}

}  // namespace vllm_ops
