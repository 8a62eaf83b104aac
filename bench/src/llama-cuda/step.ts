// SPDX-License-Identifier: Apache-2.0
import { arange, full, type Tensor, torch, zeros } from '@vllm-ops/core'
import { type AttentionMetadata, BLOCK_SIZE, type LlamaConfig, type ModelDType } from '@vllm-ops/llama'

/** The inputs of a step in which `batch` sequences of `context` tokens each get one more. */
export class DecodeStep {
  readonly blocks: number
  readonly inputIds: Tensor
  readonly positions: Tensor
  readonly metadata: AttentionMetadata
  readonly #tensors: readonly Tensor[]

  constructor(
    readonly config: LlamaConfig,
    readonly dtype: ModelDType,
    device: string,
    batch: number,
    context: number,
  ) {
    const width = Math.ceil(context / BLOCK_SIZE)
    this.blocks = batch * width
    this.inputIds = zeros([batch], { dtype: 'int64', device })
    this.positions = full([batch], context - 1, { dtype: 'int64', device })
    const ids = arange(0, this.blocks, { dtype: 'int32', device })
    const blockTables = ids.view([batch, width])
    const seqLens = full([batch], context, { dtype: 'int32', device })
    // The last token's place in the last block of each sequence.
    const last = arange(width - 1, this.blocks, { dtype: 'int64', device, step: width })
    const slotMapping = torch.aten.add.Scalar!(
      torch.aten.mul.Scalar!(last, BLOCK_SIZE),
      (context - 1) % BLOCK_SIZE,
    )
    this.metadata = {
      slotMapping,
      numPrefillTokens: 0,
      prefills: [],
      decode: { numTokens: batch, blockTables, seqLens, maxSeqLen: context },
    }
    this.#tensors = [this.inputIds, this.positions, ids, blockTables, seqLens, last, slotMapping]
  }

  dispose(): void {
    for (const tensor of this.#tensors) tensor.dispose()
  }
}

/** What a step reads of the weights: all matrices but the embedding, of which it reads a row a token. */
export function weightBytes(config: LlamaConfig, dtype: ModelDType): number {
  const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim } = config
  const attention = (2 * numAttentionHeads + 2 * numKeyValueHeads) * headDim * hiddenSize
  const layer = attention + 3 * hiddenSize * intermediateSize
  const elements = config.numHiddenLayers * layer + config.vocabSize * hiddenSize
  return elements * (dtype === 'float32' ? 4 : 2)
}
