// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

export const reshape_and_cache = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'reshape_and_cache(Tensor key, Tensor value, Tensor(a0!) key_cache, Tensor(a1!) value_cache, Tensor slot_mapping, str kv_cache_dtype, float kv_scale) -> ()',
})
