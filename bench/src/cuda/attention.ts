// SPDX-License-Identifier: Apache-2.0
import {
  arange,
  empty,
  type FloatDType,
  full,
  memory,
  type OpArgument,
  PARTITION_SIZE,
  randn,
  scope,
  type Tensor,
  torch,
} from '@vllm-ops/core'
import { BLOCK_SIZE, LLAMA_3_8B as llama } from '@vllm-ops/llama'
import { requireClose } from '../kernels/check'
import { number, percent, table } from '../table'
import { callOf, cardOf } from './case'
import { type Baseline, copyMicroseconds, DEVICE, microseconds } from './device-time'

const { numAttentionHeads: HEADS, headDim: HEAD_SIZE } = llama
const TARGET_SHARE = 0.85
/** The target is for reads of more than this. */
const TARGET_BYTES = 64e6
/** Queries of a call are as many again, for the checks. */
const CHECKED_SEQUENCES = 4

interface Result {
  readonly op: string
  readonly dtype: FloatDType
  readonly kvHeads: number
  readonly context: number
  readonly batch: number
  readonly us: number
  /** Of keys and values. */
  readonly cacheBytes: number
  readonly gbPerSecond: number
  readonly ofCopy: number
  readonly sameCopyUs: number
  readonly target?: number
}

interface Caches {
  readonly key: Tensor
  readonly value: Tensor
  readonly blocks: number
  readonly kvHeads: number
  readonly dtype: FloatDType
}

/** Keys and values of `tokens` tokens; numbers of N(0, 1). */
function caches(tokens: number, kvHeads: number, dtype: FloatDType): Caches {
  const blocks = Math.floor(tokens / BLOCK_SIZE)
  const x = dtype === 'float32' ? 4 : 8
  const options = { dtype, device: DEVICE }
  return {
    key: randn([blocks, kvHeads, HEAD_SIZE / x, BLOCK_SIZE, x], options),
    value: randn([blocks, kvHeads, HEAD_SIZE, BLOCK_SIZE], options),
    blocks,
    kvHeads,
    dtype,
  }
}

/** The arguments of a call from `query` on. */
function attentionArgs(cache: Caches, table: Tensor, context: number): OpArgument[] {
  const [batch = 0] = table.shape
  return [
    randn([batch, HEADS, HEAD_SIZE], { dtype: cache.dtype, device: DEVICE }),
    cache.key,
    cache.value,
    cache.kvHeads,
    HEAD_SIZE ** -0.5,
    table,
    full([batch], context, { dtype: 'int32', device: DEVICE }),
    BLOCK_SIZE,
    context,
    null,
    'auto',
    1,
    ...[0, 0, 0, 0, 0],
  ]
}

/** What comes before `query`: the output, and for v2 its working memory. */
function outputs(op: string, batch: number, context: number, dtype: FloatDType): Tensor[] {
  const out = empty([batch, HEADS, HEAD_SIZE], { dtype, device: DEVICE })
  if (op === 'paged_attention_v1') return [out]
  const rows = [batch, HEADS, Math.ceil(context / PARTITION_SIZE)]
  return [
    out,
    empty(rows, { device: DEVICE }),
    empty(rows, { device: DEVICE }),
    empty([...rows, HEAD_SIZE], { dtype, device: DEVICE }),
  ]
}

/**
 * Compares the last sequences of a call with the card's reference on caches of their blocks alone: the reference would widen all of the
 * caches.
 */
function check(op: string, args: readonly OpArgument[], cache: Caches, table: Tensor): void {
  scope(() => {
    const [batch = 0, width = 0] = table.shape
    const checked = Math.min(batch, CHECKED_SEQUENCES)
    const last = (tensor: Tensor) => tensor.narrow(0, batch - checked, checked).contiguous()
    callOf(op)(...args)
    const first = op === 'paged_attention_v1' ? 1 : 4
    const [out, query, lengths] = [args[0], args[first], args[first + 6]] as [Tensor, Tensor, Tensor]
    const used = last(table).to('int64').reshape([-1])
    const own = arange(0, checked * width, { dtype: 'int32', device: DEVICE }).reshape([checked, width])
    const gather = (tensor: Tensor) => torch.aten.index_select(tensor, 0, used).to('float32')
    const exact = empty([checked, HEADS, HEAD_SIZE], { device: DEVICE })
    const reference: OpArgument[] = [
      exact,
      last(query).to('float32'),
      repacked(gather(cache.key)),
      gather(cache.value),
    ]
    reference.push(...args.slice(first + 3, first + 5), own, last(lengths), ...args.slice(first + 7))
    torch.vllm_ops?.paged_attention_v1?.(...reference)
    const { ulps, absolute } = cardOf(op).tolerance[cache.dtype]
    // Twice the absolute error, for the float32 kernel that this is compared with has one as well.
    requireClose(op, last(out), exact, { ulps, absolute: 2 * absolute }, cache.dtype)
  })
}

/** Keys in pieces of 16 bytes of float32, out of pieces of another number of elements. */
function repacked(keys: Tensor): Tensor {
  const [blocks = 0, heads = 0, parts = 0, size = 0, x = 0] = keys.shape
  const split = keys.reshape([blocks, heads, parts, size, x / 4, 4])
  return torch.aten
    .permute(split, [0, 1, 2, 4, 3, 5])
    .contiguous()
    .reshape([blocks, heads, (parts * x) / 4, size, 4])
}

/** Decode attention over contexts and batches, each call on blocks that no call shortly before has read. */
export function measureAttention(
  base: Baseline,
  options: {
    contexts: readonly number[]
    batches: readonly number[]
    kvHeads: readonly number[]
    dtypes: readonly FloatDType[]
    rounds: number
    /** Of the caches. */
    gigabytes: number
  },
): Result[] {
  const results: Result[] = []
  for (const dtype of options.dtypes)
    for (const kvHeads of options.kvHeads) {
      scope(() => {
        const itemsize = dtype === 'float32' ? 4 : 2
        const tokenBytes = 2 * kvHeads * HEAD_SIZE * itemsize
        const cache = caches((options.gigabytes * 1e9) / tokenBytes, kvHeads, dtype)
        for (const context of options.contexts)
          for (const batch of options.batches)
            for (const op of ['paged_attention_v1', 'paged_attention_v2']) {
              const result = measureOne(op, cache, context, batch, base, options.rounds)
              if (result) results.push(result)
            }
      })
      memory.emptyCache()
    }
  const lines = results.map((it) => [
    it.op,
    it.dtype,
    `${HEADS} / ${it.kvHeads}`,
    `${it.batch} × ${it.context}`,
    number(it.cacheBytes / 1e6),
    number(it.us),
    number(it.gbPerSecond),
    percent(it.ofCopy),
    number(it.sameCopyUs),
    it.target === undefined ? '' : `≥ ${percent(it.target)}: ${it.ofCopy >= it.target ? 'met' : 'missed'}`,
  ])
  const header = ['op', 'dtype', 'heads', 'batch', 'MB', 'µs', 'GB/s', 'of the copy', 'copy µs', 'target']
  process.stdout.write(`decode attention\n${table(header, lines, 4)}\n`)
  return results
}

function measureOne(
  op: string,
  cache: Caches,
  context: number,
  batch: number,
  { copyBandwidth }: Baseline,
  rounds: number,
): Result | undefined {
  const { kvHeads, dtype } = cache
  const width = context / BLOCK_SIZE
  const cacheBytes = (cache.key.nbytes / cache.blocks) * width * batch * 2
  // Blocks of all sets of tables, each block in one of them.
  const sets = Math.min(16, Math.floor(cache.blocks / (batch * width)))
  if (sets < 1) return undefined
  return scope(() => {
    const order = torch.aten.randperm!(cache.blocks, { dtype: 'int64', device: DEVICE }).to('int32')
    const calls = Array.from({ length: sets }, (_, set) => {
      const table = order
        .narrow(0, set * batch * width, batch * width)
        .reshape([batch, width])
        .contiguous()
      return { table, args: [...outputs(op, batch, context, dtype), ...attentionArgs(cache, table, context)] }
    })
    const [first] = calls
    if (!first) return undefined
    check(op, first.args, cache, first.table)
    const call = callOf(op)
    const { median } = microseconds(
      calls.map(
        ({ args }) =>
          () =>
            void call(...args),
      ),
      rounds,
    )
    const gbPerSecond = cacheBytes / median / 1e3
    return {
      op,
      dtype,
      kvHeads,
      context,
      batch,
      us: median,
      cacheBytes,
      gbPerSecond,
      ofCopy: gbPerSecond / copyBandwidth,
      sameCopyUs: copyMicroseconds(Math.min(cacheBytes, 2e9), rounds) * Math.max(1, cacheBytes / 2e9),
      ...(cacheBytes > TARGET_BYTES ? { target: TARGET_SHARE } : {}),
    }
  })
}
