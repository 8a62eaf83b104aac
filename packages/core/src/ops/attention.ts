// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { type Aten, defineOp, type FloatDType } from './card'
import { apart, type Fill, filled, input, otherDType, output } from './case'
import { bytes, wide, wideDType } from './math'
import { checkCaches, packing } from './paged'

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
    _localBlocks,
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
    if (Number(vertStride) > 1)
      expect.that('blocksparse_block_size', sparseBlockSize, Number(sparseBlockSize) > 0, 'a positive number')
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

  *cases(dtype) {
    const lengths = [1, 16, 17, 63, 5]
    for (const headSize of [8, 64, 80, 96, 112, 120, 128, 192, 256])
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
      mayRefuse: ['block_tables', 'seq_lens'],
      args: { ...good, block_tables: { ...good.block_tables, ...apart(good.block_tables.shape, 3) } },
    }
    yield {
      name: 'out with gaps',
      mayRefuse: 'out',
      args: { ...good, out: { ...good.out, ...apart(good.out.shape, 16) } },
    }
    yield {
      name: 'blocks of the caches apart',
      mayRefuse: ['key_cache', 'value_cache'],
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
  },

  *rejects(dtype) {
    const good = call(dtype, { lengths: [5, 17] })
    const { shape } = good.query
    const x = packing(dtype)
    const int32 = (dims: readonly number[], ...values: number[]) => filled(dims, 'int32', values)
    yield {
      name: 'float64 queries',
      argument: ['query', 'out'],
      args: { ...good, query: input(shape, 'float64') },
    }
    yield {
      name: 'out of another dtype',
      argument: ['out', 'query'],
      args: { ...good, out: output(shape, otherDType(dtype)) },
    }
    yield {
      name: 'out of another shape',
      argument: ['out', 'query'],
      args: { ...good, out: output([2, 256], dtype) },
    }
    yield {
      name: 'queries of two dimensions',
      argument: 'query',
      args: { ...good, query: input([2, 256], dtype), out: output([2, 256], dtype) },
    }
    yield {
      name: 'a key cache of another dtype',
      argument: 'key_cache',
      args: { ...good, key_cache: input(good.key_cache.shape, otherDType(dtype)) },
    }
    yield {
      name: 'a value cache of another dtype',
      argument: 'value_cache',
      args: { ...good, value_cache: input(good.value_cache.shape, otherDType(dtype)) },
    }
    yield {
      name: 'a key cache packed otherwise',
      argument: ['key_cache', 'value_cache'],
      args: { ...good, key_cache: input([5, 2, 64 / (2 * x), 16, 2 * x], dtype) },
    }
    yield {
      name: 'keys of smaller heads',
      argument: ['key_cache', 'query'],
      args: {
        ...good,
        key_cache: input([5, 2, 32 / x, 16, x], dtype),
        value_cache: input([5, 2, 32, 16], dtype),
      },
    }
    yield {
      name: 'fewer value blocks',
      argument: 'value_cache',
      args: { ...good, value_cache: input([4, 2, 64, 16], dtype) },
    }
    yield {
      name: 'another block size',
      argument: ['block_size', 'key_cache'],
      args: { ...good, block_size: 8 },
    }
    yield {
      name: 'blocks of no tokens',
      argument: ['block_size', 'key_cache'],
      args: { ...good, block_size: 0 },
    }
    yield {
      name: 'more KV heads than there are',
      argument: ['num_kv_heads', 'key_cache'],
      args: { ...good, num_kv_heads: 4 },
    }
    yield { name: 'no KV heads', argument: ['num_kv_heads', 'key_cache'], args: { ...good, num_kv_heads: 0 } }
    const odd = call(dtype, { lengths: [5, 17], heads: 3, kvHeads: 2 })
    yield { name: 'heads that KV heads do not divide', argument: ['num_kv_heads', 'query'], args: odd }
    yield {
      name: 'tables of 64 bits',
      argument: 'block_tables',
      args: { ...good, block_tables: filled([2, 3], 'int64', [1]) },
    }
    yield {
      name: 'tables of one dimension',
      argument: 'block_tables',
      args: { ...good, block_tables: int32([6], 1) },
    }
    yield {
      name: 'tables of fewer sequences',
      argument: 'block_tables',
      args: { ...good, block_tables: int32([1, 3], 1) },
    }
    yield {
      name: 'a block behind the cache',
      argument: 'block_tables',
      args: { ...good, block_tables: int32([2, 3], 0, 0, 0, 1, 5, 0) },
    }
    yield {
      name: 'a negative block',
      argument: 'block_tables',
      args: { ...good, block_tables: int32([2, 3], 0, 0, 0, 1, -1, 0) },
    }
    yield {
      name: 'lengths of 64 bits',
      argument: 'seq_lens',
      args: { ...good, seq_lens: filled([2], 'int64', [5, 17]) },
    }
    yield {
      name: 'more lengths than sequences',
      argument: ['seq_lens', 'query'],
      args: { ...good, seq_lens: int32([3], 5, 17, 1) },
    }
    yield {
      name: 'a length beyond the table',
      argument: ['seq_lens', 'block_tables'],
      args: { ...good, seq_lens: int32([2], 5, 49), max_seq_len: 49 },
    }
    yield {
      name: 'a length above the maximum',
      argument: ['seq_lens', 'max_seq_len'],
      args: { ...good, max_seq_len: 16 },
    }
    yield { name: 'a negative length', argument: 'seq_lens', args: { ...good, seq_lens: int32([2], 5, -1) } }
    yield {
      name: 'slopes of another dtype',
      argument: 'alibi_slopes',
      args: { ...good, alibi_slopes: filled([4], 'float64', [1]) },
    }
    yield {
      name: 'fewer slopes than heads',
      argument: 'alibi_slopes',
      args: { ...good, alibi_slopes: filled([3], 'float32', [1]) },
    }
    yield {
      name: 'an unknown cache dtype',
      argument: 'kv_cache_dtype',
      args: { ...good, kv_cache_dtype: 'int3' },
    }
    yield {
      name: 'sparse blocks of no tokens',
      argument: 'blocksparse_block_size',
      args: { ...good, blocksparse_vert_stride: 4, blocksparse_local_blocks: 1 },
    }
  },

  tolerance: {
    float32: {
      ulps: 16,
      absolute: 2 ** -15,
      reason:
        'a logit q · k * scale of up to 500 errs by 2^-24 of itself and more, and exp makes it a relative error of the weight',
    },
    float16: { ulps: 1, absolute: 2 ** -15, reason: 'rounded once; the logits are float32' },
    bfloat16: { ulps: 1, absolute: 2 ** -15, reason: 'rounded once; the logits are float32' },
  },

  cost(out, query, keyCache, valueCache, _numKvHeads, _scale, blockTables, seqLens, _blockSize, maxSeqLen) {
    const [sequences = 0, heads = 0, headSize = 0] = query.shape
    const [, kvHeads = 0] = keyCache.shape
    // The lengths themselves are in the device's memory: this takes each sequence for the longest.
    const tokens = sequences * maxSeqLen
    const perToken = bytes(
      { ...keyCache, shape: [kvHeads, headSize] },
      { ...valueCache, shape: [kvHeads, headSize] },
    )
    return {
      flops: 4 * tokens * heads * headSize,
      bytes: bytes(out, query, seqLens, blockTables) + tokens * perToken,
    }
  },
})
