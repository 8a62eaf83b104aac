// SPDX-License-Identifier: Apache-2.0
//
// The calls that the cases of paged attention are made of.
import type { FloatDType } from './card'
import { type Fill, filled, input, output } from './case'
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

/** A call of `paged_attention_v1`. */
export function call(dtype: FloatDType, shape: AttentionShape) {
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

/**
 * Tokens of a sequence for each of which `paged_attention_v2`'s working memory (`exp_sums`, `max_logits`, `tmp_out`) has a partition:
 * ceil(max_seq_len / PARTITION_SIZE) of them. vLLM's name and number (`_PARTITION_SIZE` in vllm/attention/ops/paged_attn.py).
 */
export const PARTITION_SIZE = 512

type Call = ReturnType<typeof call>

/** A call of `paged_attention_v2` out of one of `paged_attention_v1`. */
export function withScratch(args: Call, dtype: FloatDType, spare = 0) {
  const [sequences = 0, heads = 0, headSize = 0] = args.query.shape
  const partitions = Math.ceil(args.max_seq_len / PARTITION_SIZE) + spare
  const { out, ...attention } = args
  return {
    out,
    exp_sums: output([sequences, heads, partitions], 'float32'),
    max_logits: output([sequences, heads, partitions], 'float32'),
    tmp_out: output([sequences, heads, partitions, headSize], dtype),
    ...attention,
  }
}
