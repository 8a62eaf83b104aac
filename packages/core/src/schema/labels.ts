// SPDX-License-Identifier: Apache-2.0

/**
 * A labeled one-element tuple for each argument name that our schemas use. TypeScript can't make a tuple's label out of
 * a string type, so the names stand here once more: with them editors show `rms_norm(out: Tensor, input: Tensor, …)`
 * instead of `args_0`. A name that is missing costs its label only; the type tests name those of cards that are.
 */
export interface Labeled<T> {
  alibi_slopes: [alibi_slopes: T]
  block_size: [block_size: T]
  block_tables: [block_tables: T]
  blocksparse_block_size: [blocksparse_block_size: T]
  blocksparse_head_sliding_step: [blocksparse_head_sliding_step: T]
  blocksparse_local_blocks: [blocksparse_local_blocks: T]
  blocksparse_vert_stride: [blocksparse_vert_stride: T]
  cos_sin_cache: [cos_sin_cache: T]
  dtype: [dtype: T]
  epsilon: [epsilon: T]
  exp_sums: [exp_sums: T]
  head_size: [head_size: T]
  input: [input: T]
  is_neox: [is_neox: T]
  key: [key: T]
  key_cache: [key_cache: T]
  kv_cache_dtype: [kv_cache_dtype: T]
  kv_scale: [kv_scale: T]
  m: [m: T]
  max_logits: [max_logits: T]
  max_seq_len: [max_seq_len: T]
  n: [n: T]
  num_kv_heads: [num_kv_heads: T]
  out: [out: T]
  other: [other: T]
  positions: [positions: T]
  query: [query: T]
  residual: [residual: T]
  scale: [scale: T]
  self: [self: T]
  seq_lens: [seq_lens: T]
  slot_mapping: [slot_mapping: T]
  tp_rank: [tp_rank: T]
  tmp_out: [tmp_out: T]
  type: [type: T]
  value: [value: T]
  value_cache: [value_cache: T]
  W: [W: T]
  weight: [weight: T]
}
