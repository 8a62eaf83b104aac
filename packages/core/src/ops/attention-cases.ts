// SPDX-License-Identifier: Apache-2.0
//
// The calls that paged attention must work for.
import { call, withScratch } from './attention-call'
import type { FloatDType } from './card'
import { apart, input } from './case'
import { packing } from './paged'

/** Calls that must work. */
export function* cases(dtype: FloatDType) {
  const lengths = [1, 16, 17, 63, 5]
  for (const headSize of [packing(dtype), 3 * packing(dtype), 64, 80, 96, 112, 120, 128, 192, 256])
    yield { name: `heads of ${headSize}`, args: call(dtype, { lengths, headSize }) }
  for (const blockSize of [1, 3, 8, 16, 32])
    yield { name: `blocks of ${blockSize}`, args: call(dtype, { lengths, blockSize }) }
  for (const [heads, kvHeads] of [
    [1, 1],
    [4, 4],
    [9, 3],
    [8, 1],
    [5, 5],
    [32, 8],
  ] as const)
    yield { name: `${heads} heads, ${kvHeads} for keys`, args: call(dtype, { lengths, heads, kvHeads }) }
  yield { name: 'no sequences', args: call(dtype, { lengths: [] }) }
  yield { name: 'a sequence of no tokens', args: call(dtype, { lengths: [3, 0, 17] }) }
  yield { name: 'one token each', args: call(dtype, { lengths: [1, 1] }) }
  yield { name: 'no spare blocks in the table', args: call(dtype, { lengths, spareBlocks: 0 }) }
  yield {
    name: '40 sequences',
    args: call(dtype, { lengths: Array.from({ length: 40 }, (_, i) => (i * 13) % 70), heads: 9, kvHeads: 3 }),
  }
  yield {
    name: 'a long sequence among short ones',
    args: call(dtype, { lengths: [1025, 1, 700], heads: 2, kvHeads: 1 }),
  }
  yield { name: 'a maximal length far above', args: { ...call(dtype, { lengths }), max_seq_len: 10_000 } }
  yield { name: 'ALiBi', args: call(dtype, { lengths: [1, 63, 130], heads: 8, kvHeads: 4, alibi: true }) }
  yield { name: 'peaked', args: call(dtype, { lengths, scale: 1 }) }
  yield { name: 'logits beyond what exp holds', args: call(dtype, { lengths, scale: 20 }) }
  yield { name: 'all weights equal', args: call(dtype, { lengths, scale: 0 }) }
  const good = call(dtype, { lengths })
  yield { name: 'another scale of the cache', args: { ...good, kv_scale: 0.5 } }
  yield {
    name: 'queries of a fused projection',
    args: { ...good, query: input(good.query.shape, dtype, { strides: [512, 64, 1] }) },
  }
  yield {
    name: 'queries misaligned, at an odd stride',
    args: { ...good, query: input(good.query.shape, dtype, { strides: [257, 64, 1], offset: 1 }) },
  }
  yield {
    name: 'everything misaligned',
    args: {
      ...good,
      out: { ...good.out, offset: 1 },
      key_cache: { ...good.key_cache, offset: 1 },
      value_cache: { ...good.value_cache, offset: 3 },
    },
  }
  yield {
    name: 'tables and lengths with gaps',
    mayRefuse: ['block_tables', 'seq_lens'] as const,
    args: { ...good, block_tables: { ...good.block_tables, ...apart(good.block_tables.shape, 3) } },
  }
  yield {
    name: 'out with gaps',
    mayRefuse: 'out' as const,
    args: { ...good, out: { ...good.out, ...apart(good.out.shape, 16) } },
  }
  yield {
    name: 'blocks of the caches apart',
    mayRefuse: ['key_cache', 'value_cache'] as const,
    args: {
      ...good,
      key_cache: { ...good.key_cache, ...apart(good.key_cache.shape, 24) },
      value_cache: { ...good.value_cache, ...apart(good.value_cache.shape, 24) },
    },
  }
  const long = call(dtype, { lengths: [1, 64, 65, 200, 333], heads: 4, kvHeads: 2 })
  const sparse = (local: number, stride: number, block: number, step: number, rank = 0) => ({
    ...long,
    tp_rank: rank,
    blocksparse_local_blocks: local,
    blocksparse_vert_stride: stride,
    blocksparse_block_size: block,
    blocksparse_head_sliding_step: step,
  })
  yield { name: 'block-sparse, all heads alike', args: sparse(1, 4, 64, 0) }
  yield { name: 'block-sparse, sliding by head', args: sparse(1, 3, 32, 1) }
  yield { name: 'block-sparse, sliding by KV head', args: sparse(2, 4, 16, -1) }
  yield { name: 'block-sparse, second rank', args: sparse(1, 5, 32, 2, 1) }
  yield { name: 'block-sparse, second rank, by KV head', args: sparse(1, 5, 32, -2, 1) }
  yield { name: 'block-sparse, without local blocks', args: sparse(0, 3, 32, 1) }
  yield { name: 'a vertical stride of 1 is dense', args: sparse(1, 1, 64, 0) }
}

/** Calls of `paged_attention_v2` that must work, beyond those of `paged_attention_v1`. */
export function* partitionCases(dtype: FloatDType) {
  const long = { heads: 4, kvHeads: 2, headSize: 64 }
  yield {
    name: 'one to five partitions',
    args: withScratch(call(dtype, { ...long, lengths: [511, 512, 513, 2049, 0, 1] }), dtype),
  }
  const short = call(dtype, { ...long, lengths: [5, 700] })
  yield { name: 'more partitions than needed', args: withScratch(short, dtype, 3) }
  const tokens = { ...call(dtype, { ...long, lengths: [1500, 40] }), max_seq_len: 5000 }
  yield { name: 'partitions for a maximal length far above', args: withScratch(tokens, dtype) }
  const scratch = withScratch(call(dtype, { ...long, lengths: [1300, 900] }), dtype)
  yield {
    name: 'working memory misaligned',
    args: {
      ...scratch,
      exp_sums: { ...scratch.exp_sums, offset: 1 },
      max_logits: { ...scratch.max_logits, offset: 1 },
      tmp_out: { ...scratch.tmp_out, offset: 1 },
    },
  }
}
