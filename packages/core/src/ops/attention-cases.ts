// SPDX-License-Identifier: Apache-2.0
//
// The calls that test paged attention.
import type { FloatDType } from './card'
import { apart, type Fill, filled, input, otherDType, output } from './case'
import { packing } from './paged'

interface AttentionShape {
  /** Tokens of each sequence. */
  readonly lengths: readonly number[]
  readonly heads?: number
  readonly kvHeads?: number
  readonly headSize?: number
  readonly blockSize?: number
  /** Blocks of the longest sequence in the table beyond those that it needs. */
  readonly spareBlocks?: number
  readonly alibi?: boolean
  /** How far the logits spread: large values let one token win, small ones mix all. */
  readonly scale?: number
}

const EMPTY = Number.NaN

function call(dtype: FloatDType, shape: AttentionShape) {
  const {
    lengths,
    heads = 4,
    kvHeads = 2,
    headSize = 64,
    blockSize = 16,
    spareBlocks = 1,
    alibi = false,
  } = shape
  const longest = Math.max(0, ...lengths)
  const width = Math.ceil(longest / blockSize) + spareBlocks
  const used = lengths.map((length) => Math.ceil(length / blockSize))
  const blocks = used.reduce((total, count) => total + count, 0) + 2
  // Blocks are dealt out from the last one down, so that no sequence has neighbours in order; the rest of the table is out of range.
  let next = blocks - 1
  const table = lengths.flatMap((_, i) =>
    Array.from({ length: width }, (_, block) => (block < (used[i] ?? 0) ? next-- : 2 ** 30)),
  )
  const owner = new Map<number, number>()
  table.forEach((block, i) => {
    const sequence = Math.floor(i / width)
    if (block < blocks) owner.set(block, (lengths[sequence] ?? 0) - (i % width) * blockSize)
  })
  // What no sequence holds is NaN: reading it shows in the result.
  const isToken = (block: number, position: number) => position < (owner.get(block) ?? 0)
  const x = packing(dtype)
  const keyFill: Fill = (index, random) => {
    const value = random.normal()
    const position = Math.floor(index / x) % blockSize
    return isToken(Math.floor(index / (kvHeads * headSize * blockSize)), position) ? value : EMPTY
  }
  const valueFill: Fill = (index, random) => {
    const value = random.normal()
    return isToken(Math.floor(index / (kvHeads * headSize * blockSize)), index % blockSize) ? value : EMPTY
  }
  return {
    out: output([lengths.length, heads, headSize], dtype),
    query: input([lengths.length, heads, headSize], dtype),
    key_cache: filled([blocks, kvHeads, headSize / x, blockSize, x], dtype, keyFill),
    value_cache: filled([blocks, kvHeads, headSize, blockSize], dtype, valueFill),
    num_kv_heads: kvHeads,
    // Queries and keys are N(0, 1), so logits have a standard deviation of 1 with this scale and one token rarely wins: a wrong
    // layout of the keys changes every weight.
    scale: shape.scale ?? headSize ** -0.5,
    block_tables: filled([lengths.length, width], 'int32', table),
    seq_lens: filled([lengths.length], 'int32', lengths),
    block_size: blockSize,
    max_seq_len: longest,
    alibi_slopes: alibi ? filled([heads], 'float32', (i) => 2 ** (-(8 / heads) * (i + 1))) : null,
    kv_cache_dtype: 'auto',
    kv_scale: 1,
    tp_rank: 0,
    blocksparse_local_blocks: 0,
    blocksparse_vert_stride: 0,
    blocksparse_block_size: 0,
    blocksparse_head_sliding_step: 0,
  }
}

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
}

/** The tokens that `paged_attention_v2`'s working memory has a partition for. */
export const PARTITION = 512

type Call = ReturnType<typeof call>

/** A call of `paged_attention_v2` out of one of `paged_attention_v1`. */
export function withScratch(args: Call, dtype: FloatDType, spare = 0) {
  const [sequences = 0, heads = 0, headSize = 0] = args.query.shape
  const partitions = Math.ceil(args.max_seq_len / PARTITION) + spare
  const { out, ...attention } = args
  return {
    out,
    exp_sums: output([sequences, heads, partitions], 'float32'),
    max_logits: output([sequences, heads, partitions], 'float32'),
    tmp_out: output([sequences, heads, partitions, headSize], dtype),
    ...attention,
  }
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
