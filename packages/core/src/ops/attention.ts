// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { PARTITION_SIZE, withScratch } from './attention-call'
import { cases, partitionCases } from './attention-cases'
import { rejects, scratchRejects } from './attention-rejects'
import { type Aten, defineOp } from './card'
import { bytes, roundedOnce, wide, wideDType } from './math'
import { checkCaches } from './paged'

/** The tokens of `cache` in the order of `table` [sequences, width]: [sequences, kv_heads, width * block_size, head_size]. */
function gathered(aten: Aten, cache: Tensor, table: Tensor): Tensor {
  const [sequences = 0, blocks = 0] = table.shape
  const [, heads = 0, size = 0, blockSize = 0] = cache.shape
  const rows = aten('index.Tensor', cache, [table.reshape([sequences * blocks])]).reshape([
    sequences,
    blocks,
    heads,
    size,
    blockSize,
  ])
  return aten('permute', rows, [0, 2, 1, 4, 3]).reshape([sequences, heads, blocks * blockSize, size])
}

/** Which positions of the keys a block-sparse head looks at, [sequences or 1, heads, positions]. */
function sparseMask(
  aten: Aten,
  position: Tensor,
  lengths: Tensor,
  heads: { count: number; kvCount: number },
  sparse: { rank: number; local: number; stride: number; block: number; step: number },
): Tensor {
  const key = aten('div.Scalar_mode', position, sparse.block, { rounding_mode: 'floor' })
  const query = aten('div.Scalar_mode', aten('sub.Scalar', lengths, 1), sparse.block, {
    rounding_mode: 'floor',
  })
  const head = aten('arange', heads.count, { dtype: 'int64', device: position.device })
  const group = heads.count / heads.kvCount
  const kvHead = aten('div.Scalar_mode', head, group, { rounding_mode: 'floor' })
  const index =
    sparse.step >= 0
      ? aten('mul.Scalar', aten('add.Scalar', head, sparse.rank * heads.count), sparse.step)
      : aten('mul.Scalar', aten('add.Scalar', kvHead, sparse.rank * heads.kvCount), -sparse.step)
  const offset = aten('add.Scalar', index, 1).reshape([1, heads.count, 1])
  const vertical = aten(
    'eq.Scalar',
    aten('remainder.Scalar', aten('add.Tensor', key, offset), sparse.stride),
    0,
  )
  const local = aten('gt.Tensor', key, aten('sub.Scalar', query, sparse.local))
  return aten('bitwise_or.Tensor', vertical, local)
}

/**
 * Attention of one new token per sequence over the keys and values in a paged cache (Kwon et al., 2023); vLLM's
 * `paged_attention_v1`: `out[s, h] = softmax(scale * query[s, h] · K + bias) V` over the `seq_lens[s]` first tokens of sequence s. Position t
 * of it is row `t % block_size` of block `block_tables[s, t / block_size]`; head h reads KV head `h / (heads / num_kv_heads)`.
 *
 * - `out`, `query` [sequences, heads, head_size]: float32, float16 or bfloat16; `query` with any stride between sequences. Any
 *   `head_size` that is a multiple of x.
 * - `key_cache` [blocks, num_kv_heads, head_size / x, block_size, x] with x = 16 bytes / size of an element; `value_cache`
 *   [blocks, num_kv_heads, head_size, block_size]; both of the dtype of `query`. Any `block_size`. What lies behind a sequence's
 *   end isn't looked at, NaN included.
 * - `block_tables` [sequences, blocks of the longest] and `seq_lens` [sequences]: int32. Entries behind a sequence's last block
 *   may hold anything. A sequence of no tokens yields zeros.
 * - `max_seq_len`: at least the longest of `seq_lens`.
 * - `alibi_slopes` [heads], float32: adds `slope * (t - seq_len + 1)` to the logits (Press et al., "Train Short, Test Long", 2022).
 * - `kv_cache_dtype` 'auto'; `kv_scale` belongs to quantized caches and changes nothing here.
 * - Block-sparse where `blocksparse_vert_stride` > 1: of the key blocks b of `blocksparse_block_size` tokens only the local ones count,
 *   b > (seq_len - 1) / blocksparse_block_size - blocksparse_local_blocks, and those where (b + offset) is a multiple of the stride; offset
 *   = (tp_rank * heads + h) * step + 1 for a step >= 0, else (tp_rank * num_kv_heads + kv_head) * -step + 1. A head that no token
 *   is left for yields zeros.
 */
export const paged_attention_v1 = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'paged_attention_v1(Tensor(a!) out, Tensor query, Tensor key_cache, Tensor value_cache, int num_kv_heads, float scale, Tensor block_tables, Tensor seq_lens, int block_size, int max_seq_len, Tensor? alibi_slopes, str kv_cache_dtype, float kv_scale, int tp_rank, int blocksparse_local_blocks, int blocksparse_vert_stride, int blocksparse_block_size, int blocksparse_head_sliding_step) -> ()',

  check(
    expect,
    out,
    query,
    keyCache,
    valueCache,
    numKvHeads,
    _scale,
    blockTables,
    seqLens,
    blockSize,
    maxSeqLen,
    alibiSlopes,
    kvCacheDType,
    _kvScale,
    _tpRank,
    localBlocks,
    vertStride,
    sparseBlockSize,
  ) {
    expect.floating('query', query)
    expect.rank('query', query, 3)
    const [sequences = 0, heads = 0, headSize = 0] = query.shape
    expect.dtype('out', out, query.dtype)
    expect.shape('out', out, ...query.shape)
    const cache = checkCaches(expect, keyCache, valueCache, kvCacheDType)
    expect.dtype('key_cache', keyCache, query.dtype)
    expect.that('key_cache', keyCache, cache.headSize === headSize, `heads of ${headSize} elements`)
    expect.that(
      'num_kv_heads',
      numKvHeads,
      Number(numKvHeads) === cache.heads,
      `the ${cache.heads} heads of 'key_cache'`,
    )
    expect.that(
      'num_kv_heads',
      numKvHeads,
      cache.heads > 0 && heads % cache.heads === 0,
      `a divisor of ${heads} heads`,
    )
    expect.that(
      'block_size',
      blockSize,
      Number(blockSize) === cache.blockSize,
      `the ${cache.blockSize} of 'key_cache'`,
    )
    expect.dtype('seq_lens', seqLens, 'int32')
    expect.shape('seq_lens', seqLens, sequences)
    expect.dtype('block_tables', blockTables, 'int32')
    expect.rank('block_tables', blockTables, 2)
    const [rows = 0, columns = 0] = blockTables.shape
    expect.that('block_tables', blockTables, rows === sequences, `${sequences} rows`)
    if (alibiSlopes) {
      expect.dtype('alibi_slopes', alibiSlopes, 'float32')
      expect.shape('alibi_slopes', alibiSlopes, heads)
    }
    if (Number(vertStride) > 1) {
      expect.that('blocksparse_block_size', sparseBlockSize, Number(sparseBlockSize) > 0, 'a positive number')
      expect.that('blocksparse_local_blocks', localBlocks, Number(localBlocks) >= 0, 'a number of blocks')
    }
    const capacity = columns * cache.blockSize
    expect.range('seq_lens', seqLens, 0, Math.min(Number(maxSeqLen), capacity))
    if (query.device === 'meta') return
    const lengths = seqLens.toArray() as number[]
    const table = blockTables.toArray() as number[][]
    lengths.forEach((length, sequence) => {
      for (const block of table[sequence]?.slice(0, Math.ceil(length / cache.blockSize)) ?? [])
        expect.that(
          'block_tables',
          block,
          block >= 0 && block < cache.blocks,
          `values from 0 to ${cache.blocks - 1}`,
        )
    })
  },

  reference(
    aten,
    out,
    query,
    keyCache,
    valueCache,
    numKvHeads,
    scale,
    blockTables,
    seqLens,
    blockSize,
    _maxSeqLen,
    alibiSlopes,
    _kvCacheDType,
    _kvScale,
    tpRank,
    localBlocks,
    vertStride,
    sparseBlockSize,
    headSlidingStep,
  ) {
    const [sequences = 0, heads = 0, headSize = 0] = query.shape
    const [blocks = 0, kvHeads = 0] = keyCache.shape
    const size = Number(blockSize)
    const width = blockTables.shape[1] ?? 0
    const options = { dtype: 'int64', device: query.device } as const
    const lengths = seqLens.to('int64').reshape([sequences, 1, 1])
    const position = aten('arange', width * size, options)
    // Entries of the table behind a sequence's last block may be anything: block 0 stands in for them.
    const start = aten('mul.Scalar', aten('arange', width, options), size)
    const unused = aten('ge.Tensor', start, lengths.reshape([sequences, 1]))
    const table = aten('masked_fill.Scalar', blockTables.to('int64'), unused, 0)
    const unpacked = aten('permute', keyCache, [0, 1, 2, 4, 3]).reshape([blocks, kvHeads, headSize, size])
    const keys = gathered(aten, wide(unpacked), table)
    const inside = aten('lt.Tensor', position, lengths)
    const behind = aten('bitwise_not', inside)
    const values = aten(
      'masked_fill.Scalar',
      gathered(aten, wide(valueCache), table),
      behind.reshape([sequences, 1, width * size, 1]),
      0,
    )

    const grouped = wide(query).reshape([sequences, kvHeads, heads / kvHeads, headSize])
    const products = aten('matmul', grouped, aten('transpose.int', keys, -1, -2)).reshape([
      sequences,
      heads,
      width * size,
    ])
    let logits = aten('mul.Scalar', products, scale)
    if (alibiSlopes) {
      const distance = aten('sub.Tensor', aten('add.Scalar', position, 1), lengths).to(wideDType(query.dtype))
      logits = aten('add.Tensor', logits, aten('mul.Tensor', alibiSlopes.reshape([1, heads, 1]), distance))
    }
    const sparse = {
      rank: Number(tpRank),
      local: Number(localBlocks),
      stride: Number(vertStride),
      block: Number(sparseBlockSize),
      step: Number(headSlidingStep),
    }
    const seen =
      sparse.stride > 1
        ? aten(
            'bitwise_and.Tensor',
            inside,
            sparseMask(aten, position, lengths, { count: heads, kvCount: Number(numKvHeads) }, sparse),
          )
        : inside
    const unseen = aten('bitwise_not', seen)
    const masked = aten('masked_fill.Scalar', logits, unseen, Number.NEGATIVE_INFINITY)
    // Where nothing is seen softmax is 0 / 0: those weights are zeros, too.
    const weights = aten('masked_fill.Scalar', aten('softmax.int', masked, -1), unseen, 0)
    const result = aten(
      'matmul',
      weights.reshape([sequences, kvHeads, heads / kvHeads, width * size]),
      values,
    )
    aten('copy_', out, result.reshape([sequences, heads, headSize]))
  },

  cases,
  rejects,

  tolerance: roundedOnce({
    ulps: 16,
    absolute: 2 ** -18,
    reason:
      'an error of 2^-24 of a logit is one of the weight by as much times the logit, and values of both signs cancel',
  }),

  cost(out, query, keyCache, valueCache, _numKvHeads, _scale, blockTables, seqLens, _blockSize, maxSeqLen) {
    const [sequences = 0, heads = 0, headSize = 0] = query.shape
    const [, kvHeads = 0] = keyCache.shape
    // The lengths themselves are in the device's memory: this takes each sequence for the longest.
    const tokens = sequences * maxSeqLen
    const perToken = bytes(
      { dtype: keyCache.dtype, shape: [kvHeads, headSize] },
      { dtype: valueCache.dtype, shape: [kvHeads, headSize] },
    )
    return {
      flops: 4 * tokens * heads * headSize,
      bytes: bytes(out, query, seqLens, blockTables) + tokens * perToken,
    }
  },
})

/**
 * `paged_attention_v1` with working memory from the caller, in which the results of parts of a sequence lie until they are put
 * together: vLLM's `paged_attention_v2`. It returns the same and demands the same of its arguments; beyond that:
 *
 * - `exp_sums`, `max_logits` [sequences, heads, partitions], float32, and `tmp_out` [sequences, heads, partitions, head_size], of the
 *   dtype of `query`: contiguous, with a partition for each 512 tokens of `max_seq_len`, or more. What they hold afterwards
 *   means nothing.
 */
export const paged_attention_v2 = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'paged_attention_v2(Tensor(a0!) out, Tensor(a1!) exp_sums, Tensor(a2!) max_logits, Tensor(a3!) tmp_out, Tensor query, Tensor key_cache, Tensor value_cache, int num_kv_heads, float scale, Tensor block_tables, Tensor seq_lens, int block_size, int max_seq_len, Tensor? alibi_slopes, str kv_cache_dtype, float kv_scale, int tp_rank, int blocksparse_local_blocks, int blocksparse_vert_stride, int blocksparse_block_size, int blocksparse_head_sliding_step) -> ()',

  check(expect, out, expSums, maxLogits, tmpOut, ...attention) {
    paged_attention_v1.check(expect, out, ...attention)
    const [sequences = 0, heads = 0, headSize = 0] = out.shape
    expect.dtype('tmp_out', tmpOut, out.dtype)
    expect.rank('tmp_out', tmpOut, 4)
    const [, , partitions = 0] = tmpOut.shape
    const [, , , , , , , , maxSeqLen] = attention
    const least = Math.ceil(Number(maxSeqLen) / PARTITION_SIZE)
    expect.that('tmp_out', tmpOut, partitions >= least, `at least ${least} partitions`)
    expect.shape('tmp_out', tmpOut, sequences, heads, partitions, headSize)
    expect.that('tmp_out', tmpOut, tmpOut.isContiguous, 'a contiguous tensor')
    for (const [name, tensor] of Object.entries({ exp_sums: expSums, max_logits: maxLogits })) {
      expect.dtype(name, tensor, 'float32')
      expect.shape(name, tensor, sequences, heads, partitions)
      expect.that(name, tensor, tensor.isContiguous, 'a contiguous tensor')
    }
  },

  reference: (aten, out, _expSums, _maxLogits, _tmpOut, ...attention) =>
    paged_attention_v1.reference?.(aten, out, ...attention),

  *cases(dtype) {
    for (const { args, mayRefuse, ...rest } of cases(dtype))
      yield { ...rest, ...(mayRefuse && { mayRefuse }), args: withScratch(args, dtype) }
    yield* partitionCases(dtype)
  },

  *rejects(dtype) {
    for (const rejection of rejects(dtype)) yield { ...rejection, args: withScratch(rejection.args, dtype) }
    yield* scratchRejects(dtype)
  },

  tolerance: paged_attention_v1.tolerance,
  scratch: ['exp_sums', 'max_logits', 'tmp_out'],
  cost: (out, _expSums, _maxLogits, _tmpOut, ...attention) => paged_attention_v1.cost(out, ...attention),
})
