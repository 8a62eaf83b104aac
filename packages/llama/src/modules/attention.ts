// SPDX-License-Identifier: Apache-2.0
import { ops, PARTITION_SIZE, scope, type Tensor, torch } from '@vllm-ops/core'
import {
  type AttentionMetadata,
  attnBias,
  type DecodeMetadata,
  type PrefillMetadata,
} from '../attention-metadata'
import type { LlamaConfig } from '../config'
import { BLOCK_SIZE, type LayerCache } from '../kv-cache'
import type { PartitionScratch } from '../workspace'
import { Module } from './module'

/** The views that one attention call works on, each `[tokens, heads, headDim]` (kvHeads for key and value). */
export interface AttentionViews {
  readonly out: Tensor
  readonly query: Tensor
  readonly key: Tensor
  readonly value: Tensor
  /** Working memory for at least so many sequences, and parts of each. */
  scratch(sequences: number, partitions: number): PartitionScratch
}

/** With more pairs of sequence and head than this there is work for a whole device without splitting sequences. */
const ENOUGH_PAIRS = 512
/** Up to this length a sequence's weights fit into the fast memory of a block of threads. */
const LONGEST_WHOLE = 8192

/** In how many parts the sequences of a decode step are computed: 1, where there are enough pairs of sequence and head or little to read. */
export function partitionsOf(pairs: number, maxSeqLen: number): number {
  return maxSeqLen <= LONGEST_WHOLE && pairs > ENOUGH_PAIRS
    ? 1
    : Math.max(1, Math.ceil(maxSeqLen / PARTITION_SIZE))
}

/** Causal attention over a paged cache: stores the keys and values of the batch, then attends to what each token may see. */
export class Attention extends Module<
  [views: AttentionViews, cache: LayerCache, metadata: AttentionMetadata],
  void
> {
  readonly #config: LlamaConfig
  readonly #scale: number

  constructor(path: string, config: LlamaConfig) {
    super('Attention', path)
    this.#config = config
    this.#scale = 1 / Math.sqrt(config.headDim)
  }

  protected forward(views: AttentionViews, cache: LayerCache, metadata: AttentionMetadata): void {
    const { decode, numPrefillTokens } = metadata
    ops.reshape_and_cache(views.key, views.value, cache.key, cache.value, metadata.slotMapping, 'auto', 1)
    for (const prefill of metadata.prefills) scope(() => this.#prefill(views, cache, prefill))
    if (decode && numPrefillTokens === 0) this.#decode(views, cache, decode)
    else if (decode) {
      scope(() => {
        const part = (t: Tensor) => t.narrow(0, numPrefillTokens, decode.numTokens)
        const first = (t: Tensor) => t.narrow(0, 0, decode.numTokens)
        const scratch = (sequences: number, partitions: number) => {
          const { expSums, maxLogits, partial } = views.scratch(sequences, partitions)
          return { expSums: first(expSums), maxLogits: first(maxLogits), partial: first(partial) }
        }
        this.#decode({ out: part(views.out), query: part(views.query), scratch }, cache, decode)
      })
    }
  }

  #decode(
    { out, query, scratch }: Pick<AttentionViews, 'out' | 'query' | 'scratch'>,
    { key, value }: LayerCache,
    { numTokens, blockTables, seqLens, maxSeqLen }: DecodeMetadata,
  ): void {
    const { numAttentionHeads: heads, numKeyValueHeads: kvHeads } = this.#config
    const partitions = partitionsOf(numTokens * heads, maxSeqLen)
    // The last seven: no ALiBi, no fp8, and no block sparsity, whose sizes then mean nothing.
    if (partitions === 1) {
      // biome-ignore format: one argument a line would be a column of nameless numbers
      ops.paged_attention_v1(
        out, query, key, value, kvHeads, this.#scale, blockTables, seqLens, BLOCK_SIZE, maxSeqLen,
        null, 'auto', 1, 0, 0, 0, 64, 0,
      )
      return
    }
    const { expSums, maxLogits, partial } = scratch(numTokens, partitions)
    // biome-ignore format: as above
    ops.paged_attention_v2(
      out, expSums, maxLogits, partial, query, key, value, kvHeads, this.#scale, blockTables, seqLens, BLOCK_SIZE, maxSeqLen,
      null, 'auto', 1, 0, 0, 0, 64, 0,
    )
  }

  #prefill(views: AttentionViews, cache: LayerCache, prefill: PrefillMetadata): void {
    const { start, length, contextLength, blocks } = prefill
    const { numAttentionHeads, numKeyValueHeads: kvHeads, headDim } = this.#config
    const group = numAttentionHeads / kvHeads
    const total = contextLength + length
    const piece = (t: Tensor) => t.narrow(0, start, length)
    // The query heads that share a key head become the heads, the key heads the batch: [kvHeads, group, tokens, headDim].
    const query = piece(views.query).view([length, kvHeads, group, headDim]).transpose(0, 1).transpose(1, 2)
    const share = (t: Tensor) =>
      torch.aten.expand(torch.aten.unsqueeze(t, 1), [kvHeads, group, total, headDim])
    const key = share(blocks ? gatherKeys(cache.key, blocks, total) : piece(views.key).transpose(0, 1))
    const value = share(
      blocks ? gatherValues(cache.value, blocks, total) : piece(views.value).transpose(0, 1),
    )
    const bias = blocks ? (prefill.attnBias ?? attnBias(prefill, query.dtype, query.device)) : null
    const attended = torch.aten.scaled_dot_product_attention(query, key, value, bias, 0, bias === null, {
      scale: this.#scale,
    })
    const out = piece(views.out).view([length, kvHeads, group, headDim])
    out.copy_(attended.transpose(1, 2).transpose(0, 1))
  }
}

/** The first `tokens` keys of a sequence, `[kvHeads, tokens, headDim]`, from `[blocks, kvHeads, headDim / x, blockSize, x]`. */
function gatherKeys(cache: Tensor, blocks: Tensor, tokens: number): Tensor {
  const picked = torch.aten.index_select(cache, 0, blocks)
  const [count, heads, groups, size, x] = picked.shape as [number, number, number, number, number]
  return torch.aten
    .permute(picked, [1, 0, 3, 2, 4])
    .reshape([heads, count * size, groups * x])
    .narrow(1, 0, tokens)
}

/** The same for values, from `[blocks, kvHeads, headDim, blockSize]`. */
function gatherValues(cache: Tensor, blocks: Tensor, tokens: number): Tensor {
  const picked = torch.aten.index_select(cache, 0, blocks)
  const [count, heads, headDim, size] = picked.shape as [number, number, number, number]
  return torch.aten
    .permute(picked, [1, 0, 3, 2])
    .reshape([heads, count * size, headDim])
    .narrow(1, 0, tokens)
}
