// SPDX-License-Identifier: Apache-2.0
import { empty, keep, type Tensor } from '@vllm-ops/core'
import type { LlamaConfig } from './config'
import type { AttentionViews } from './modules/attention'
import type { ModelDType } from './weights/weight-source'

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
    }
  }

  /** Frees all of it. */
  dispose(): void {
    const { hidden, residual, qkv, query, key, value, attended, views, gateUp, activated } = this
    const own = { hidden, residual, qkv, query, key, value, attended, gateUp, activated }
    for (const tensor of Object.values({ ...own, ...views })) tensor.dispose()
  }
}
