// SPDX-License-Identifier: Apache-2.0
import type { DType, Tensor } from '@vllm-ops/core'

/** The dtypes that a model computes in. */
export type ModelDType = Extract<DType, 'float32' | 'float16' | 'bfloat16'>

/** Where modules take their weights from, by the names of Hugging Face's checkpoints (`model.layers.0.mlp.up_proj.weight`). */
export interface WeightSource {
  /** What every weight is loaded as. */
  readonly dtype: ModelDType
  readonly device: string
  /** Loads a weight, which then belongs to the caller. Throws if it is not there in this shape. */
  load(name: string, shape: readonly number[]): Tensor
}
