// SPDX-License-Identifier: Apache-2.0
import { type Tensor, torch } from '@vllm-ops/core'
import type { WeightSource } from '../weights/weight-source'
import { createLogitsMethod, type LinearMethod } from './linear-method'
import { Module } from './module'

/** The vectors of tokens: rows of its weight. */
export class VocabParallelEmbedding extends Module<[out: Tensor, inputIds: Tensor], void> {
  /** `[vocabulary, size]` */
  readonly weight: Tensor
  readonly #index = torch.aten.index.Tensor_out!

  constructor(path: string, vocabSize: number, size: number, weights: WeightSource) {
    const weight = weights.load(`${path}.weight`, [vocabSize, size])
    super('VocabParallelEmbedding', path, weight)
    this.weight = this.own(weight)
  }

  /**
   * @param out `[tokens, size]`
   * @param inputIds int64 `[tokens]`; an id outside the vocabulary is an error
   */
  protected forward(out: Tensor, inputIds: Tensor): void {
    this.#index(this.weight, [inputIds], { out })
  }
}

/** The output head: a score for each token of the vocabulary. */
export class ParallelLMHead extends Module<[out: Tensor, hidden: Tensor, tokens: number], void> {
  readonly #method: LinearMethod

  /** @param tied the embedding, where it is the head's weight too */
  constructor(
    path: string,
    vocabSize: number,
    size: number,
    weights: WeightSource,
    tied?: VocabParallelEmbedding,
  ) {
    const weight = tied?.weight ?? weights.load(`${path}.weight`, [vocabSize, size])
    super('ParallelLMHead', path, weight)
    this.#method = createLogitsMethod(tied ? weight : this.own(weight))
  }

  /**
   * @param out float32 `[tokens, vocabulary]`
   * @param hidden `[tokens, size]`
   * @param tokens their number
   */
  protected forward(out: Tensor, hidden: Tensor, tokens: number): void {
    this.#method.apply(out, hidden, tokens)
  }
}
