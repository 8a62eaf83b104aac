// SPDX-License-Identifier: Apache-2.0
//
// The calls that paged attention must refuse.
import { call, withScratch } from './attention-call'
import type { FloatDType } from './card'
import { apart, filled, input, otherDType, output } from './case'
import { packing } from './paged'

/** Calls that must be refused. */
export function* rejects(dtype: FloatDType) {
  const good = call(dtype, { lengths: [5, 17] })
  const { shape } = good.query
  const x = packing(dtype)
  const int32 = (dims: readonly number[], ...values: number[]) => filled(dims, 'int32', values)
  yield {
    name: 'float64 queries',
    argument: ['query', 'out'] as const,
    args: { ...good, query: input(shape, 'float64') },
  }
  yield {
    name: 'out of another dtype',
    argument: ['out', 'query'] as const,
    args: { ...good, out: output(shape, otherDType(dtype)) },
  }
  yield {
    name: 'out of another shape',
    argument: ['out', 'query'] as const,
    args: { ...good, out: output([2, 256], dtype) },
  }
  yield {
    name: 'queries of two dimensions',
    argument: 'query' as const,
    args: { ...good, query: input([2, 256], dtype), out: output([2, 256], dtype) },
  }
  yield {
    name: 'a key cache of another dtype',
    argument: 'key_cache' as const,
    args: { ...good, key_cache: input(good.key_cache.shape, otherDType(dtype)) },
  }
  yield {
    name: 'a value cache of another dtype',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input(good.value_cache.shape, otherDType(dtype)) },
  }
  yield {
    name: 'a key cache packed otherwise',
    argument: ['key_cache', 'value_cache'] as const,
    args: { ...good, key_cache: input([5, 2, 64 / (2 * x), 16, 2 * x], dtype) },
  }
  yield {
    name: 'keys of smaller heads',
    argument: ['key_cache', 'query'] as const,
    args: {
      ...good,
      key_cache: input([5, 2, 32 / x, 16, x], dtype),
      value_cache: input([5, 2, 32, 16], dtype),
    },
  }
  yield {
    name: 'fewer value blocks',
    argument: 'value_cache' as const,
    args: { ...good, value_cache: input([4, 2, 64, 16], dtype) },
  }
  yield {
    name: 'another block size',
    argument: ['block_size', 'key_cache'] as const,
    args: { ...good, block_size: 8 },
  }
  yield {
    name: 'blocks of no tokens',
    argument: ['block_size', 'key_cache'] as const,
    args: { ...good, block_size: 0 },
  }
  yield {
    name: 'more KV heads than there are',
    argument: ['num_kv_heads', 'key_cache'] as const,
    args: { ...good, num_kv_heads: 4 },
  }
  yield {
    name: 'no KV heads',
    argument: ['num_kv_heads', 'key_cache'] as const,
    args: { ...good, num_kv_heads: 0 },
  }
  const odd = call(dtype, { lengths: [5, 17], heads: 3, kvHeads: 2 })
  yield { name: 'heads that KV heads do not divide', argument: ['num_kv_heads', 'query'] as const, args: odd }
  yield {
    name: 'tables of 64 bits',
    argument: 'block_tables' as const,
    args: { ...good, block_tables: filled([2, 3], 'int64', [1]) },
  }
  yield {
    name: 'tables of one dimension',
    argument: 'block_tables' as const,
    args: { ...good, block_tables: int32([6], 1) },
  }
  yield {
    name: 'tables of fewer sequences',
    argument: 'block_tables' as const,
    args: { ...good, block_tables: int32([1, 3], 1) },
  }
  yield {
    name: 'a block behind the cache',
    argument: 'block_tables' as const,
    wrongValues: true as const,
    args: { ...good, block_tables: int32([2, 3], 0, 0, 0, 1, 5, 0) },
  }
  yield {
    name: 'a negative block',
    argument: 'block_tables' as const,
    wrongValues: true as const,
    args: { ...good, block_tables: int32([2, 3], 0, 0, 0, 1, -1, 0) },
  }
  yield {
    name: 'lengths of 64 bits',
    argument: 'seq_lens' as const,
    args: { ...good, seq_lens: filled([2], 'int64', [5, 17]) },
  }
  yield {
    name: 'more lengths than sequences',
    argument: ['seq_lens', 'query'] as const,
    args: { ...good, seq_lens: int32([3], 5, 17, 1) },
  }
  yield {
    name: 'a length beyond the table',
    argument: ['seq_lens', 'block_tables'] as const,
    wrongValues: true as const,
    args: { ...good, seq_lens: int32([2], 5, 49), max_seq_len: 49 },
  }
  yield {
    name: 'a length above the maximum',
    argument: ['seq_lens', 'max_seq_len'] as const,
    wrongValues: true as const,
    args: { ...good, max_seq_len: 16 },
  }
  yield {
    name: 'a negative length',
    argument: 'seq_lens' as const,
    wrongValues: true as const,
    args: { ...good, seq_lens: int32([2], 5, -1) },
  }
  yield {
    name: 'slopes of another dtype',
    argument: 'alibi_slopes' as const,
    args: { ...good, alibi_slopes: filled([4], 'float64', [1]) },
  }
  yield {
    name: 'fewer slopes than heads',
    argument: 'alibi_slopes' as const,
    args: { ...good, alibi_slopes: filled([3], 'float32', [1]) },
  }
  yield {
    name: 'an unknown cache dtype',
    argument: 'kv_cache_dtype' as const,
    args: { ...good, kv_cache_dtype: 'int3' },
  }
  yield {
    name: 'sparse blocks of no tokens',
    argument: 'blocksparse_block_size' as const,
    args: { ...good, blocksparse_vert_stride: 4, blocksparse_local_blocks: 1 },
  }
  yield {
    name: 'fewer than no local blocks',
    argument: 'blocksparse_local_blocks' as const,
    args: {
      ...good,
      blocksparse_vert_stride: 4,
      blocksparse_local_blocks: -1,
      blocksparse_block_size: 16,
    },
  }
}

/** Calls of `paged_attention_v2` whose working memory must be refused. */
export function* scratchRejects(dtype: FloatDType) {
  const good = withScratch(call(dtype, { lengths: [5, 600] }), dtype)
  const wrong = [
    ['sums of another dtype', 'exp_sums', output([2, 4, 2], 'float64')],
    ['maxima of another dtype', 'max_logits', output([2, 4, 2], 'float64')],
    ['partial results of another dtype', 'tmp_out', output([2, 4, 2, 64], otherDType(dtype))],
    ['sums of one partition less', ['exp_sums', 'tmp_out'], output([2, 4, 1], 'float32')],
    ['maxima of fewer heads', ['max_logits', 'tmp_out'], output([2, 3, 2], 'float32')],
    ['partial results of smaller heads', 'tmp_out', output([2, 4, 2, 32], dtype)],
    ['partial results of three dimensions', 'tmp_out', output([2, 4, 2], dtype)],
    ['sums with gaps', 'exp_sums', output([2, 4, 2], 'float32', apart([2, 4, 2], 4))],
    ['maxima with gaps', 'max_logits', output([2, 4, 2], 'float32', apart([2, 4, 2], 4))],
    ['partial results with gaps', 'tmp_out', output([2, 4, 2, 64], dtype, apart([2, 4, 2, 64], 8))],
  ] as const
  for (const [name, argument, spec] of wrong)
    yield { name, argument, args: { ...good, [[argument].flat()[0] ?? '']: spec } }
  yield {
    name: 'fewer partitions than the maximum takes',
    argument: ['tmp_out', 'exp_sums', 'max_logits', 'max_seq_len'] as const,
    args: { ...good, max_seq_len: 1025 },
  }
}
