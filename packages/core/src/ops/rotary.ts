// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

export const rotary_embedding = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'rotary_embedding(Tensor positions, Tensor(a0!) query, Tensor(a1!) key, int head_size, Tensor cos_sin_cache, bool is_neox) -> ()',
})
