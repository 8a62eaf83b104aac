// SPDX-License-Identifier: Apache-2.0
import { empty, scope, type Tensor } from '@vllm-ops/core'
import type { LlamaConfig } from './config'
import { BLOCK_SIZE, createKvCache, ITEM_SIZE } from './kv-cache'
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
      const numBlocks = Math.ceil(kvCacheTokens / BLOCK_SIZE)
      const caches = createKvCache(config, numBlocks, dtype, 'meta')
      const logits = runOnce(model, caches, maxNumBatchedTokens, maxNumSeqs)
      const workspace = new Workspace(config, maxNumBatchedTokens, dtype, 'meta')
      const { hidden, residual, qkv, attended, gateUp, activated } = workspace
      const weights = source.bytes + maxModelLen * config.rotaryDim * ITEM_SIZE[dtype]
      const kvCache = bytesOf(caches.flatMap(({ key, value }) => [key, value]))
      const activations = bytesOf([hidden, residual, qkv, attended, gateUp, activated, logits])
      workspace.dispose()
      for (const { key, value } of caches) for (const tensor of [key, value]) tensor.dispose()
      return { weights, kvCache, activations, total: weights + kvCache + activations }
    })
  } finally {
    model.dispose()
  }
}

/** One prompt as long as a batch, with a row of logits for each sequence. */
function runOnce(
  model: LlamaForCausalLM,
  caches: ReturnType<typeof createKvCache>,
  tokens: number,
  sequences: number,
): Tensor {
  const int64 = (length: number) => empty([length], { dtype: 'int64', device: 'meta' })
  const metadata = {
    slotMapping: int64(tokens),
    numPrefillTokens: tokens,
    prefills: [{ start: 0, length: tokens, contextLength: 0, blocks: undefined }],
    decode: undefined,
  }
  return model.call(int64(tokens), int64(tokens), caches, metadata, int64(Math.min(tokens, sequences)))
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
