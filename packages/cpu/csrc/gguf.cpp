// SPDX-License-Identifier: Apache-2.0
//
// Launcher of the conversion of ggml's quantized weights to a floating-point tensor.

#include <torch/csrc/stable/ops.h>
#include <vllm_ops/check.h>
#include <vllm_ops/kernel.h>

#include <optional>

#include "isa.h"
#include "kernels/ggml_types.h"
#include "parallel.h"

namespace vllm_ops::cpu {

VLLM_OPS_CPU_KERNEL(ggml_dequantize, T* out, const uint8_t* blocks, GgmlType type, int64_t count)

torch::stable::Tensor ggml_dequantize(const torch::stable::Tensor& W, int64_t type, int64_t m,
                                      int64_t n, std::optional<ScalarType> dtype) {
  constexpr Check check("ggml_dequantize");
  const View w = check.input("W", W);
  const std::optional<GgmlBlock> block = ggml_block(type);
  if (!block)
    check.fail("type",
               "a ggml type out of F32 0, F16 1, Q4_0 2, Q4_1 3, Q5_0 6, Q5_1 7, Q8_0 8, Q2_K 10, "
               "Q3_K 11, "
               "Q4_K 12, Q5_K 13, Q6_K 14, BF16 30",
               text(type));
  check.dtype(w, ScalarType::Byte);
  check.contiguous(w);
  if (m < 0) check.fail("m", "a number of rows", text(m));
  if (n < 0 || n % block->elements != 0)
    check.fail("n",
               text("a multiple of ", block->elements, ", the elements of a block of this type"),
               text(n));
  int64_t bytes = 0;
  const int64_t row_blocks = n / block->elements;
  if (__builtin_mul_overflow(m, row_blocks, &bytes) ||
      __builtin_mul_overflow(bytes, block->bytes, &bytes) || w.numel() != bytes)
    check.fail("W", text(m, " rows of ", row_blocks, " blocks of ", block->bytes, " bytes"),
               text("shape ", w.shape(), ", ", w.numel(), " bytes"));
  const ScalarType out_dtype = dtype.value_or(ScalarType::Half);
  if (out_dtype != ScalarType::Float && out_dtype != ScalarType::Half &&
      out_dtype != ScalarType::BFloat16)
    check.fail("dtype", "float32, float16 or bfloat16", dtype_name(out_dtype));

  const int64_t shape[] = {m, n};
  torch::stable::Tensor out = torch::stable::new_empty(W, {shape, 2}, out_dtype);
  const MutableView o = check.output("the result", out);
  dispatch_floating(out_dtype, [&]<typename T>() {
    const auto kernel = kernels::ggml_dequantize<T>.select();
    const int64_t block_bytes = block->bytes + block->elements * o.itemsize;
    parallel_for_bytes(m * row_blocks, block_bytes, [&](int64_t begin, int64_t end) {
      kernel(o.as<T>() + begin * block->elements, w.as<uint8_t>() + begin * block->bytes,
             block->type, end - begin);
    });
  });
  return out;
}
VLLM_OPS_KERNEL(CPU, ggml_dequantize, ggml_dequantize)

}  // namespace vllm_ops::cpu
