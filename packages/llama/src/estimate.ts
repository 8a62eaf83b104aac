// SPDX-License-Identifier: Apache-2.0
import { scope, type Tensor } from '@vllm-ops/core'
import type { LlamaConfig } from './config'
import { type BatchShape, fakeBatch } from './fake-batch'
import { blocksFor, createKvCache, ITEM_SIZE, type LayerCache } from './kv-cache'
import { partitionsOf } from './modules/attention'
import { LlamaForCausalLM } from './modules/llama'
import { DummyWeights } from './weights/dummy'
import type { ModelDType, WeightSource } from './weights/weight-source'
import { Workspace } from './workspace'

/** What a model is to be run with; the defaults are those of {@link LLM.load}. */
export interface EstimateOptions {
  readonly dtype?: ModelDType
  /** Positions that rotary embeddings are prepared for. Default: all that the model was trained for. */
  readonly maxModelLen?: number
  /** Tokens that the paged cache holds, over all sequences. Default: `maxModelLen`. */
  readonly kvCacheTokens?: number
  /** Tokens of one forward pass. */
  readonly maxNumBatchedTokens?: number
  /** Sequences of one forward pass, each with a row of logits. */
  readonly maxNumSeqs?: number
}

/** Bytes that a model takes on its device. */
export interface MemoryEstimate {
  readonly weights: number
  readonly kvCache: number
  /** Activations and logits of the largest forward pass. What an op allocates for itself while it runs is not in it. */
  readonly activations: number
  readonly total: number
}

/**
 * What memory a model of this shape needs, without its weights and without that memory: it is built and run once on the `meta` device, which
 * has shapes and no data, so that a shape that does not fit together is an error here too.
 *
 * @throws {ArgumentError} of the first op whose arguments do not fit
 */
export function estimateMemory(config: LlamaConfig, options: EstimateOptions = {}): MemoryEstimate {
  const { dtype = 'bfloat16', maxModelLen = config.maxPositionEmbeddings } = options
  const { kvCacheTokens = maxModelLen, maxNumBatchedTokens = 512, maxNumSeqs = 64 } = options
  const source = new CountedWeights(dtype)
  const model = new LlamaForCausalLM(config, source, { maxModelLen })
  try {
    return scope(() => {
      const numBlocks = blocksFor(kvCacheTokens)
      const caches = createKvCache(config, numBlocks, dtype, 'meta')
      const weights = source.bytes + maxModelLen * config.rotaryDim * ITEM_SIZE[dtype]
      const kvCache = bytesOf(caches.flatMap(({ key, value }) => [key, value]))
      // One prompt as long as a batch, with the tokens of other sequences; then all sequences at their longest, one token each.
      const sequences = Math.min(maxNumBatchedTokens, maxNumSeqs)
      const longest = (count: number) => Array.from({ length: count }, () => maxModelLen)
      const prompt = {
        prefills: [{ length: maxNumBatchedTokens - (sequences - 1) }],
        decodes: longest(sequences - 1),
      }
      const passes = [prompt, { decodes: longest(sequences) }]
      const activations = Math.max(...passes.map((shape) => bytesOfPass(model, caches, shape)))
      for (const { key, value } of caches) for (const tensor of [key, value]) tensor.dispose()
      return { weights, kvCache, activations, total: weights + kvCache + activations }
    })
  } finally {
    model.dispose()
  }
}

/** Runs a forward pass; the bytes of its activations and logits. */
function bytesOfPass(model: LlamaForCausalLM, caches: readonly LayerCache[], shape: BatchShape): number {
  const { inputIds, positions, metadata, logitsIndices } = fakeBatch(shape)
  const logits = model.call(inputIds, positions, caches, metadata, logitsIndices)
  const { config, dtype, device } = model
  const workspace = new Workspace(config, inputIds.numel, dtype, device)
  const { decode } = metadata
  const partitions = decode ? partitionsOf(decode.numTokens * config.numAttentionHeads, decode.maxSeqLen) : 1
  if (decode && partitions > 1) workspace.views.scratch(decode.numTokens, partitions)
  const bytes = workspace.nbytes + logits.nbytes
  workspace.dispose()
  return bytes
}

/** Weights without data, counted. */
class CountedWeights extends DummyWeights implements WeightSource {
  bytes = 0

  constructor(dtype: ModelDType) {
    super({ dtype, device: 'meta' })
  }

  override load(name: string, shape: readonly number[]): Tensor {
    const weight = super.load(name, shape)
    this.bytes += weight.nbytes
    return weight
  }
}

function bytesOf(tensors: readonly Tensor[]): number {
  return tensors.reduce((sum, { nbytes }) => sum + nbytes, 0)
}
