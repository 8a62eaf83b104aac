// SPDX-License-Identifier: Apache-2.0
import { empty, keep, type Tensor } from '@vllm-ops/core'
import type { LlamaConfig } from './config'
import type { AttentionViews } from './modules/attention'
import type { ModelDType } from './weights/weight-source'

/** Working memory of attention over sequences that are computed in parts, for so many sequences and parts. */
export interface PartitionScratch {
  /** float32 `[sequences, heads, partitions]` */
  readonly expSums: Tensor
  /** float32 `[sequences, heads, partitions]` */
  readonly maxLogits: Tensor
  /** `[sequences, heads, partitions, headDim]` */
  readonly partial: Tensor
}

/**
 * The activations of one forward pass over a number of tokens. Layers run one after the other, so all of them share these;
 * every op writes into them, and steps of the same size allocate nothing.
 */
export class Workspace {
  readonly tokens: number
  /** `[tokens, hiddenSize]` */
  readonly hidden: Tensor
  /** `[tokens, hiddenSize]` */
  readonly residual: Tensor
  /** `[tokens, (heads + 2 · kvHeads) · headDim]`: query, key and value side by side. */
  readonly qkv: Tensor
  /** `[tokens, heads · headDim]`, a view of `qkv` */
  readonly query: Tensor
  /** `[tokens, kvHeads · headDim]`, a view of `qkv` */
  readonly key: Tensor
  /** `[tokens, kvHeads · headDim]`, a view of `qkv` */
  readonly value: Tensor
  /** `[tokens, heads · headDim]`: what attention puts out */
  readonly attended: Tensor
  /** The same memory by heads, for attention. */
  readonly views: AttentionViews
  /** `[tokens, 2 · intermediateSize]` */
  readonly gateUp: Tensor
  /** `[tokens, intermediateSize]` */
  readonly activated: Tensor
  readonly #makeScratch: (sequences: number, partitions: number) => PartitionScratch
  #scratch: PartitionScratch | undefined
  #sequences = 0
  #partitions = 0

  constructor(config: LlamaConfig, tokens: number, dtype: ModelDType, device: string) {
    const {
      hiddenSize,
      intermediateSize,
      numAttentionHeads: heads,
      numKeyValueHeads: kvHeads,
      headDim,
    } = config
    this.tokens = tokens
    const buffer = (size: number) => keep(empty([tokens, size], { dtype, device }))
    const part = (start: number, size: number) => keep(this.qkv.narrow(1, start * headDim, size * headDim))
    const byHeads = (t: Tensor, count: number) => keep(t.view([tokens, count, headDim]))
    this.hidden = buffer(hiddenSize)
    this.residual = buffer(hiddenSize)
    this.qkv = buffer((heads + 2 * kvHeads) * headDim)
    this.attended = buffer(heads * headDim)
    this.gateUp = buffer(2 * intermediateSize)
    this.activated = buffer(intermediateSize)
    this.query = part(0, heads)
    this.key = part(heads, kvHeads)
    this.value = part(heads + kvHeads, kvHeads)
    this.views = {
      out: byHeads(this.attended, heads),
      query: byHeads(this.query, heads),
      key: byHeads(this.key, kvHeads),
      value: byHeads(this.value, kvHeads),
      scratch: (sequences, partitions) => this.#scratchOf(sequences, partitions),
    }
    this.#makeScratch = (sequences, partitions) => ({
      expSums: keep(empty([sequences, heads, partitions], { dtype: 'float32', device })),
      maxLogits: keep(empty([sequences, heads, partitions], { dtype: 'float32', device })),
      partial: keep(empty([sequences, heads, partitions, headDim], { dtype, device })),
    })
  }

  /** Bytes of all of it. */
  get nbytes(): number {
    const { hidden, residual, qkv, attended, gateUp, activated } = this
    const all = [hidden, residual, qkv, attended, gateUp, activated, ...Object.values(this.#scratch ?? {})]
    return all.reduce((sum, { nbytes }) => sum + nbytes, 0)
  }

  /** For at least so many sequences and parts; kept for the next step. */
  #scratchOf(sequences: number, partitions: number): PartitionScratch {
    if (this.#scratch && this.#sequences >= sequences && this.#partitions >= partitions) return this.#scratch
    this.#freeScratch()
    this.#sequences = Math.max(this.#sequences, sequences)
    this.#partitions = Math.max(this.#partitions, partitions)
    this.#scratch = this.#makeScratch(this.#sequences, this.#partitions)
    return this.#scratch
  }

  #freeScratch(): void {
    for (const tensor of Object.values(this.#scratch ?? {})) tensor.dispose()
    this.#scratch = undefined
  }

  /** Frees all of it. */
  dispose(): void {
    const { hidden, residual, qkv, query, key, value, attended, views, gateUp, activated } = this
    const own = [hidden, residual, qkv, query, key, value, attended, gateUp, activated]
    for (const tensor of [...own, views.out, views.query, views.key, views.value]) tensor.dispose()
    this.#freeScratch()
  }
}
