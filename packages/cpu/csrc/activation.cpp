// SPDX-License-Identifier: Apache-2.0
//
// Launchers of the gated activations: out[..., d] = act(input[..., :d]) * input[..., d:].

#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(silu_and_mul, T* out, const T* input, int64_t rows, int64_t width,
                    int64_t out_stride, int64_t input_stride, bool past_caches)

void silu_and_mul(Tensor& out, const Tensor& input) {
  constexpr Check check("silu_and_mul");
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
  if (o.numel() == 0) return;

  dispatch_floating(in.dtype, [&]<typename T>() {
    const auto kernel = kernels::silu_and_mul<T>.select();
    const int64_t width = out_rows.width;
    parallel_for_bytes(out_rows.count, 3 * width * in.itemsize, [&](int64_t begin, int64_t end) {
      kernel(o.as<T>() + begin * out_rows.stride, in.as<T>() + begin * in_rows.stride, end - begin,
             width, out_rows.stride, in_rows.stride, exceeds_caches(o));
    });
  });
}
VLLM_OPS_KERNEL(CPU, silu_and_mul, silu_and_mul)

}  // namespace vllm_ops::cpu
