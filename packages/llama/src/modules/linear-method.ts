// SPDX-License-Identifier: Apache-2.0
import { hasKernel, ops, type Tensor, torch } from '@vllm-ops/core'

/** How a linear layer multiplies by its weight `[outputs, inputs]`. */
export interface LinearMethod {
  /**
   * `out = x · weightᵀ`
   *
   * @param out `[tokens, outputs]`
   * @param x `[tokens, inputs]`
   * @param tokens their number; the caller knows it, asking a tensor costs more than a small op
   */
  apply(out: Tensor, x: Tensor, tokens: number): void
}

/** Up to so many tokens reading the weight is the work, which is what `skinny_linear` is made for. */
const SKINNY_TOKENS = 8

/** The method for a weight, by what the dispatcher has for the device that it is on. */
export function createLinearMethod(weight: Tensor): LinearMethod {
  const dispatchKey = weight.device.replace(/:\d+$/, '').toUpperCase()
  const linear = torch.aten!.linear!.out!
  if (!hasKernel('vllm_ops::skinny_linear', dispatchKey))
    return { apply: (out, x) => linear(x, weight, { out }) }
  return {
    apply: (out, x, tokens) => {
      if (tokens <= SKINNY_TOKENS) ops.skinny_linear(out, x, weight)
      else linear(x, weight, { out })
    },
  }
}
