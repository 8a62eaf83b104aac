// SPDX-License-Identifier: Apache-2.0
import { empty, keep, type Tensor } from '@vllm-ops/core'
import type { LlamaConfig } from './config'
import type { ModelDType } from './weights/weight-source'

/** Tokens a block. */
export const BLOCK_SIZE = 16

/** The blocks that so many tokens take. */
export function blocksFor(tokens: number): number {
  return Math.ceil(tokens / BLOCK_SIZE)
}

/** The cached keys and values of one layer, in vLLM's paged layout. */
export interface LayerCache {
  /** `[blocks, kvHeads, headDim / x, blockSize, x]`, x = 16 bytes' worth of elements. */
  readonly key: Tensor
  /** `[blocks, kvHeads, headDim, blockSize]` */
  readonly value: Tensor
}

/** Bytes of one element of each dtype. */
export const ITEM_SIZE: Readonly<Record<ModelDType, number>> = { float32: 4, float16: 2, bfloat16: 2 }

/** Allocates the paged cache of a model, uninitialized: on the CPU its pages take memory only once they are used. */
export function createKvCache(
  config: LlamaConfig,
  numBlocks: number,
  dtype: ModelDType,
  device: string,
): LayerCache[] {
  const { numHiddenLayers, numKeyValueHeads: heads, headDim } = config
  const x = 16 / ITEM_SIZE[dtype]
  return Array.from({ length: numHiddenLayers }, () => ({
    key: keep(empty([numBlocks, heads, headDim / x, BLOCK_SIZE, x], { dtype, device })),
    value: keep(empty([numBlocks, heads, headDim, BLOCK_SIZE], { dtype, device })),
  }))
}
