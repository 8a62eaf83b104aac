// SPDX-License-Identifier: Apache-2.0
import { empty, scope, type Tensor, torch } from '@vllm-ops/core'
import type { ParallelLMHead } from './embedding'
import { Module } from './module'

/** Computes the logits of those tokens that are asked for, which in a prompt is mostly the last one alone. */
export class LogitsProcessor extends Module<
  [lmHead: ParallelLMHead, hidden: Tensor, indices?: Tensor],
  Tensor
> {
  readonly #vocabSize: number

  constructor(path: string, vocabSize: number) {
    super('LogitsProcessor', path)
    this.#vocabSize = vocabSize
  }

  /**
   * @param hidden `[tokens, size]`, after the last norm
   * @param indices int64: which tokens; all of them where nothing is given
   * @returns float32 `[indices, vocabulary]`
   */
  protected forward(lmHead: ParallelLMHead, hidden: Tensor, indices?: Tensor): Tensor {
    return scope(() => {
      const selected = indices ? torch.aten.index.Tensor!(hidden, [indices]) : hidden
      const { device, shape } = selected
      const tokens = shape[0]!
      const logits = empty([tokens, this.#vocabSize], { dtype: 'float32', device })
      lmHead.call(logits, selected, tokens)
      return logits
    })
  }
}
