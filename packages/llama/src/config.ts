// SPDX-License-Identifier: Apache-2.0
import type { GgufFile } from './gguf/gguf'

/** The shape of a Llama model: everything that is needed to build its modules, and nothing about its weights. */
export interface LlamaConfig {
  readonly vocabSize: number
  readonly hiddenSize: number
  readonly intermediateSize: number
  readonly numHiddenLayers: number
  readonly numAttentionHeads: number
  /** Fewer than `numAttentionHeads` for grouped-query attention; divides it. */
  readonly numKeyValueHeads: number
  readonly headDim: number
  /** Elements of each head that are rotated; at most `headDim`. */
  readonly rotaryDim: number
  readonly ropeTheta: number
  readonly rmsNormEps: number
  /** Positions that the model was trained for. */
  readonly maxPositionEmbeddings: number
  /** Whether the output head is the embedding itself. */
  readonly tieWordEmbeddings: boolean
}

/** The published shape of Llama 3 8B, e.g. for {@link LlamaForCausalLM.dummy}. */
export const LLAMA_3_8B: LlamaConfig = {
  vocabSize: 128256,
  hiddenSize: 4096,
  intermediateSize: 14336,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
  numKeyValueHeads: 8,
  headDim: 128,
  rotaryDim: 128,
  ropeTheta: 500000,
  rmsNormEps: 1e-5,
  maxPositionEmbeddings: 8192,
  tieWordEmbeddings: false,
}

/** The shape of SmolLM2 135M, the demo model. */
export const SMOLLM2_135M: LlamaConfig = {
  vocabSize: 49152,
  hiddenSize: 576,
  intermediateSize: 1536,
  numHiddenLayers: 30,
  numAttentionHeads: 9,
  numKeyValueHeads: 3,
  headDim: 64,
  rotaryDim: 64,
  ropeTheta: 100000,
  rmsNormEps: 1e-5,
  maxPositionEmbeddings: 8192,
  tieWordEmbeddings: true,
}

/** Shapes to measure with, without the weights: see {@link LLM.dummy}. */
export const SHAPES = { 'llama-3-8b': LLAMA_3_8B, 'smollm2-135m': SMOLLM2_135M } as const satisfies Readonly<
  Record<string, LlamaConfig>
>

/** The name of one of the {@link SHAPES}. */
export type ShapeName = keyof typeof SHAPES

const SIZE = { min: 1, max: 1 << 24 }

/** Reads the shape from a GGUF file's `llama.*` keys. Throws `E_MODEL_FORMAT` for another architecture or an impossible shape. */
export function configFromGguf({ metadata, tensors }: GgufFile): LlamaConfig {
  const architecture = metadata.string('general.architecture')
  if (architecture !== 'llama') {
    throw metadata.error('general.architecture', `expected "llama", received ${JSON.stringify(architecture)}`)
  }
  const scaling = metadata.string('llama.rope.scaling.type', 'none')
  if (scaling !== 'none')
    throw metadata.error('llama.rope.scaling.type', `${JSON.stringify(scaling)} is not supported`)
  if (metadata.integer('llama.expert_count', { min: 0, max: 1024 }, 0) > 0) {
    throw metadata.error('llama.expert_count', 'mixture-of-experts models are not supported')
  }
  const hiddenSize = metadata.integer('llama.embedding_length', SIZE)
  const numAttentionHeads = metadata.integer('llama.attention.head_count', SIZE)
  const numKeyValueHeads = metadata.integer('llama.attention.head_count_kv', SIZE, numAttentionHeads)
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw metadata.error(
      'llama.attention.head_count_kv',
      `${numKeyValueHeads} does not divide the ${numAttentionHeads} query heads`,
    )
  }
  const headDim = metadata.integer(
    'llama.attention.key_length',
    SIZE,
    Math.floor(hiddenSize / numAttentionHeads) || 1,
  )
  if (metadata.integer('llama.attention.value_length', SIZE, headDim) !== headDim) {
    throw metadata.error('llama.attention.value_length', `expected the key length ${headDim}`)
  }
  const rotaryDim = metadata.integer('llama.rope.dimension_count', SIZE, headDim)
  if (rotaryDim > headDim || rotaryDim % 2 !== 0) {
    throw metadata.error(
      'llama.rope.dimension_count',
      `expected an even number of at most ${headDim}, received ${rotaryDim}`,
    )
  }
  const embedding = tensors.get('token_embd.weight')
  return {
    vocabSize: embedding?.shape[0] ?? metadata.integer('llama.vocab_size', SIZE),
    hiddenSize,
    intermediateSize: metadata.integer('llama.feed_forward_length', SIZE),
    numHiddenLayers: metadata.integer('llama.block_count', { min: 1, max: 4096 }),
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    rotaryDim,
    ropeTheta: metadata.float('llama.rope.freq_base', { min: 1, max: 1e12 }, 10000),
    rmsNormEps: metadata.float('llama.attention.layer_norm_rms_epsilon', { min: 0, max: 1 }),
    maxPositionEmbeddings: metadata.integer('llama.context_length', SIZE),
    tieWordEmbeddings: !tensors.has('output.weight'),
  }
}
