// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'

export const paged_attention_v1 = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'paged_attention_v1(Tensor(a!) out, Tensor query, Tensor key_cache, Tensor value_cache, int num_kv_heads, float scale, Tensor block_tables, Tensor seq_lens, int block_size, int max_seq_len, Tensor? alibi_slopes, str kv_cache_dtype, float kv_scale, int tp_rank, int blocksparse_local_blocks, int blocksparse_vert_stride, int blocksparse_block_size, int blocksparse_head_sliding_step) -> ()',
})
