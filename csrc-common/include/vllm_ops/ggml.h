// SPDX-License-Identifier: Apache-2.0
//
// What ggml_dequantize checks of its arguments on every device.
#pragma once

#include <vllm_ops/check.h>
#include <vllm_ops/ggml_types.h>

#include <optional>

namespace vllm_ops {

/// `rows` times `row_blocks` blocks, and the dtype of the result.
struct CheckedBlocks {
  View blocks;
  GgmlBlock block;
  int64_t rows, row_blocks;
  ScalarType dtype;
};

/// `check` is a Check, or one that knows more of where tensors may be.
template <typename AnyCheck, typename AnyTensor>
CheckedBlocks check_ggml_blocks(AnyCheck& check, const AnyTensor& W, int64_t type, int64_t m,
                                int64_t n, std::optional<ScalarType> dtype) {
  const View w = check.input("W", W);
  const std::optional<GgmlBlock> block = ggml_block(type);
  if (!block)
    check.fail("type",
               "a ggml type out of F32 0, F16 1, Q4_0 2, Q4_1 3, Q5_0 6, Q5_1 7, Q8_0 8, Q2_K 10, "
               "Q3_K 11, Q4_K 12, Q5_K 13, Q6_K 14, BF16 30",
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
  const ScalarType out = dtype.value_or(ScalarType::Half);
  if (out != ScalarType::Float && out != ScalarType::Half && out != ScalarType::BFloat16)
    check.fail("dtype", "float32, float16 or bfloat16", dtype_name(out));
  return {w, *block, m, row_blocks, out};
}

}  // namespace vllm_ops
