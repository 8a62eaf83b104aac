// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

export const silu_and_mul = defineOp({
  schema: 'silu_and_mul(Tensor(a!) out, Tensor input) -> ()',
})
