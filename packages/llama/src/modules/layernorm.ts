// SPDX-License-Identifier: Apache-2.0
import { ops, type Tensor } from '@vllm-ops/core'
import type { WeightSource } from '../weights/weight-source'
import { Module } from './module'

type Args = [x: Tensor, residual?: Tensor | undefined, out?: Tensor]

/** Root-mean-square normalization of the last dimension: `x / sqrt(mean(x²) + epsilon) · weight`. */
export class RMSNorm extends Module<Args, void> {
  readonly #weight: Tensor
  readonly #epsilon: number

  constructor(path: string, size: number, epsilon: number, weights: WeightSource) {
    const weight = weights.load(`${path}.weight`, [size])
    super('RMSNorm', path, weight)
    this.#weight = this.own(weight)
    this.#epsilon = epsilon
  }

  /**
   * Without a residual: `out = norm(x)`. With one, both in place: `residual = residual + x; x = norm(residual)`.
   *
   * @param x `[tokens, size]`
   * @param residual `[tokens, size]`
   * @param out `[tokens, size]`, by default x itself
   */
  protected forward(x: Tensor, residual?: Tensor, out = x): void {
    if (residual) ops.fused_add_rms_norm(x, residual, this.#weight, this.#epsilon)
    else ops.rms_norm(out, x, this.#weight, this.#epsilon)
  }
}
