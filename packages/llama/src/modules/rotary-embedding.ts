// SPDX-License-Identifier: Apache-2.0
import { fromTypedArray, ops, scope, type Tensor } from '@vllm-ops/core'
import type { ModelDType } from '../weights/weight-source'
import { Module } from './module'

/** What the angles of a rotary embedding depend on. */
export interface RotaryConfig {
  readonly rotaryDim: number
  readonly ropeTheta: number
}

/** Rotates each pair (i, i + rotaryDim/2) of a head by `position · theta^(-2i / rotaryDim)`: NeoX order. */
export class RotaryEmbedding extends Module<[positions: Tensor, query: Tensor, key: Tensor], void> {
  readonly #headDim: number
  readonly #cosSinCache: Tensor

  /** @param cosSinCache by {@link createCosSinCache}; the layers of a model share one */
  constructor(path: string, headDim: number, cosSinCache: Tensor) {
    super('RotaryEmbedding', path)
    this.#headDim = headDim
    this.#cosSinCache = cosSinCache
  }

  /**
   * Both in place; any row stride.
   *
   * @param positions int64 `[tokens]`
   * @param query `[tokens, heads · headDim]`
   * @param key `[tokens, kvHeads · headDim]`
   */
  protected forward(positions: Tensor, query: Tensor, key: Tensor): void {
    ops.rotary_embedding(positions, query, key, this.#headDim, this.#cosSinCache, true)
  }
}

/** The cosines and sines of every position, `[positions, rotaryDim]`: the cosines of a row, then its sines. */
export function createCosSinCache(
  { rotaryDim, ropeTheta }: RotaryConfig,
  maxPositions: number,
  dtype: ModelDType,
  device: string,
): Tensor {
  const half = rotaryDim / 2
  const values = new Float32Array(maxPositions * rotaryDim)
  for (let i = 0; i < half; i++) {
    const frequency = ropeTheta ** (-i / half)
    for (let position = 0; position < maxPositions; position++) {
      values[position * rotaryDim + i] = Math.cos(position * frequency)
      values[position * rotaryDim + half + i] = Math.sin(position * frequency)
    }
  }
  return scope(() => fromTypedArray(values, [maxPositions, rotaryDim]).to({ dtype, device }))
}
