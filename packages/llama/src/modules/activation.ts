// SPDX-License-Identifier: Apache-2.0
import { ops, type Tensor } from '@vllm-ops/core'
import { Module } from './module'

/** `out = silu(gate) · up`, where the input is `[gate | up]`. */
export class SiluAndMul extends Module<[out: Tensor, gateUp: Tensor], void> {
  constructor(path: string) {
    super('SiluAndMul', path)
  }

  /**
   * @param out `[tokens, size]`
   * @param gateUp `[tokens, 2 · size]`
   */
  protected forward(out: Tensor, gateUp: Tensor): void {
    ops.silu_and_mul(out, gateUp)
  }
}
