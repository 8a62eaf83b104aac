// SPDX-License-Identifier: Apache-2.0
import { ones, randn, scope, type Tensor, torch } from '@vllm-ops/core'
import type { ModelDType, WeightSource } from './weight-source'

/** Random weights of any shape, for measuring a model whose weights are not at hand: normal with deviation 0.02, norms 1. */
export class DummyWeights implements WeightSource {
  readonly dtype: ModelDType
  readonly device: string

  constructor({ dtype = 'bfloat16', device = 'cpu' }: { dtype?: ModelDType; device?: string } = {}) {
    this.dtype = dtype
    this.device = device
  }

  load(_name: string, shape: readonly number[]): Tensor {
    const { dtype, device } = this
    if (shape.length === 1) return ones(shape, { dtype, device })
    return scope(() => torch.aten.mul_.Scalar!(randn(shape, { dtype, device }), 0.02))
  }
}
