// SPDX-License-Identifier: Apache-2.0
import { type Tensor, torch } from '@vllm-ops/core'

/** How a linear layer keeps its weight and multiplies by it. */
export interface LinearMethod {
  /** `out = x · weightᵀ`, `[tokens, outputs] = [tokens, inputs] · [inputs, outputs]`. */
  apply(out: Tensor, x: Tensor): void
}

/** The method for a weight `[outputs, inputs]` on its device. */
export function createLinearMethod(weight: Tensor): LinearMethod {
  return new UnquantizedLinearMethod(weight)
}

class UnquantizedLinearMethod implements LinearMethod {
  readonly #transposed: Tensor
  readonly #mm = torch.aten!.mm!.out!

  constructor(weight: Tensor) {
    this.#transposed = weight.transpose(0, 1)
  }

  apply(out: Tensor, x: Tensor): void {
    this.#mm(x, this.#transposed, { out })
  }
}
