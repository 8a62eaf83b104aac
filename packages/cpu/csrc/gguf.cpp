// SPDX-License-Identifier: Apache-2.0
//
// Launcher of the conversion of ggml's quantized weights to a floating-point tensor.

#include <torch/csrc/stable/ops.h>
#include <vllm_ops/ggml.h>
#include <vllm_ops/kernel.h>

#include <optional>

#include "isa.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(ggml_dequantize, T* out, const uint8_t* blocks, GgmlType type, int64_t count)

torch::stable::Tensor ggml_dequantize(const torch::stable::Tensor& W, int64_t type, int64_t m,
                                      int64_t n, std::optional<ScalarType> dtype) {
  constexpr Check check("ggml_dequantize");
  const CheckedBlocks checked = check_ggml_blocks(check, W, type, m, n, dtype);
  const int64_t shape[] = {m, n};
  torch::stable::Tensor out = torch::stable::new_empty(W, {shape, 2}, checked.dtype);
  const MutableView o = check.output("the result", out);
  dispatch_floating(checked.dtype, [&]<typename T>() {
    const auto kernel = kernels::ggml_dequantize<T>.select();
    const auto [block_type, elements, bytes] = checked.block;
    const int64_t block_bytes = bytes + elements * o.itemsize;
    const auto* const blocks = checked.blocks.as<uint8_t>();
    parallel_for_bytes(m * checked.row_blocks, block_bytes, [&](int64_t begin, int64_t end) {
      kernel(o.as<T>() + begin * elements, blocks + begin * bytes, block_type, end - begin);
    });
  });
  return out;
}
VLLM_OPS_KERNEL(CPU, ggml_dequantize, ggml_dequantize)

}  // namespace vllm_ops::cpu
