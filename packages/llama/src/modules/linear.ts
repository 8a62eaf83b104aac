// SPDX-License-Identifier: Apache-2.0
import { scope, type Tensor, torch } from '@vllm-ops/core'
import type { WeightSource } from '../weights/weight-source'
import { createLinearMethod, type LinearMethod } from './linear-method'
import { Module } from './module'

/** `out = x · weightᵀ`; how, the {@link LinearMethod} of the weight decides. */
abstract class LinearBase extends Module<[out: Tensor, x: Tensor, tokens: number], void> {
  readonly #method: LinearMethod

  /** @param weight `[outputs, inputs]`; belongs to the module from here on */
  constructor(name: string, path: string, weight: Tensor) {
    super(name, path, weight)
    this.#method = createLinearMethod(this.own(weight))
  }

  /**
   * @param out `[tokens, outputs]`
   * @param x `[tokens, inputs]`
   * @param tokens their number
   */
  protected forward(out: Tensor, x: Tensor, tokens: number): void {
    this.#method.apply(out, x, tokens)
  }
}

/** A projection that in tensor parallelism is split by its inputs (one device here). */
export class RowParallelLinear extends LinearBase {
  constructor(path: string, inputs: number, outputs: number, weights: WeightSource) {
    super('RowParallelLinear', path, weights.load(`${path}.weight`, [outputs, inputs]))
  }
}

/** One of the projections that a merged layer applies: where its weight is found, and how many outputs it has. */
export interface Shard {
  readonly path: string
  readonly outputs: number
}

/** Several projections of one input as one: `out = [x · w₀ᵀ | x · w₁ᵀ | …]`. */
export class MergedColumnParallelLinear extends LinearBase {
  constructor(path: string, inputs: number, shards: readonly Shard[], weights: WeightSource) {
    super('MergedColumnParallelLinear', path, loadMerged(inputs, shards, weights))
  }
}

/** The query, key and value projections as one: `out = [query | key | value]`. */
export class QKVParallelLinear extends LinearBase {
  constructor(path: string, inputs: number, shards: readonly Shard[], weights: WeightSource) {
    super('QKVParallelLinear', path, loadMerged(inputs, shards, weights))
  }
}

function loadMerged(inputs: number, shards: readonly Shard[], weights: WeightSource): Tensor {
  return scope(() => {
    const parts = shards.map(({ path, outputs }) => weights.load(`${path}.weight`, [outputs, inputs]))
    return torch.aten.cat(parts)
  })
}
