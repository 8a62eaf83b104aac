// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

export const rms_norm = defineOp({
  schema: 'rms_norm(Tensor(a!) out, Tensor input, Tensor weight, float epsilon) -> ()',
})

export const fused_add_rms_norm = defineOp({
  schema: 'fused_add_rms_norm(Tensor(a0!) input, Tensor(a1!) residual, Tensor weight, float epsilon) -> ()',
})
