// SPDX-License-Identifier: Apache-2.0
import { hasKernel, ops, scope, type Tensor, torch } from '@vllm-ops/core'

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
const SKINNY_TOKENS = 6

/** The method for a weight, by what the dispatcher has for the device that it is on. */
export function createLinearMethod(weight: Tensor): LinearMethod {
  const linear = torch.aten.linear.out!
  if (!hasSkinnyLinear(weight)) return { apply: (out, x) => linear(x, weight, { out }) }
  return {
    apply: (out, x, tokens) => {
      if (tokens <= SKINNY_TOKENS) ops.skinny_linear(out, x, weight)
      else linear(x, weight, { out })
    },
  }
}

/**
 * The method for the output head: `out` is float32 whatever the weight is, and not rounded to the weight's dtype on the way where the device
 * has a kernel that can. In bfloat16 the best two logits are often the same number.
 */
export function createLogitsMethod(weight: Tensor): LinearMethod {
  if (weight.dtype === 'float32') return createLinearMethod(weight)
  const many = createManyLogits(weight)
  if (!hasSkinnyLinear(weight)) return { apply: many }
  return {
    apply: (out, x, tokens) => {
      if (tokens <= SKINNY_TOKENS) ops.skinny_linear(out, x, weight)
      else many(out, x, tokens)
    },
  }
}

/** The same for any number of tokens. */
function createManyLogits(weight: Tensor): LinearMethod['apply'] {
  const { mm, linear } = torch.aten
  if (hasDeviceKernel('aten::mm.dtype_out', weight))
    return (out, x) => scope(() => void mm.dtype_out!(x, weight.transpose(0, 1), 'float32', { out }))
  if (hasSkinnyLinear(weight))
    return (out, x, tokens) =>
      scope(() => inSlices(out, x, tokens, (o, i) => ops.skinny_linear(o, i, weight)))
  return (out, x) => scope(() => void out.copy_(linear(x, weight)))
}

function inSlices(out: Tensor, x: Tensor, tokens: number, apply: (out: Tensor, x: Tensor) => void): void {
  for (let start = 0; start < tokens; start += SKINNY_TOKENS) {
    const length = Math.min(SKINNY_TOKENS, tokens - start)
    apply(out.narrow(0, start, length), x.narrow(0, start, length))
  }
}

/** The dispatch keys of devices, for those that kernels of ours exist for. */
const DISPATCH_KEYS: Readonly<Record<string, string>> = { cpu: 'CPU', cuda: 'CUDA' }

function hasSkinnyLinear(weight: Tensor): boolean {
  return hasDeviceKernel('vllm_ops::skinny_linear', weight)
}

function hasDeviceKernel(op: string, { device }: Tensor): boolean {
  const dispatchKey = DISPATCH_KEYS[device.replace(/:\d+$/, '')]
  return dispatchKey !== undefined && hasKernel(op, dispatchKey)
}
