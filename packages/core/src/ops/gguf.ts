// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

export const ggml_dequantize = defineOp({
  schema: 'ggml_dequantize(Tensor W, int type, SymInt m, SymInt n, ScalarType? dtype) -> Tensor',
})
