// SPDX-License-Identifier: Apache-2.0
import { scope, sdpBackends, setSDPBackends, type Tensor } from '@vllm-ops/core'
import { type AttentionMetadata, withAttnBiases } from '../attention-metadata'
import type { LlamaConfig } from '../config'
import type { LayerCache } from '../kv-cache'
import { DummyWeights } from '../weights/dummy'
import type { ModelDType, WeightSource } from '../weights/weight-source'
import { Workspace } from '../workspace'
import { SiluAndMul } from './activation'
import { Attention } from './attention'
import { ParallelLMHead, VocabParallelEmbedding } from './embedding'
import { RMSNorm } from './layernorm'
import { MergedColumnParallelLinear, QKVParallelLinear, RowParallelLinear } from './linear'
import { LogitsProcessor } from './logits-processor'
import { Module } from './module'
import { createCosSinCache, RotaryEmbedding } from './rotary-embedding'

/** The feed-forward half of a layer: `hidden = down(silu(gate(hidden)) · up(hidden))`. */
export class LlamaMLP extends Module<[workspace: Workspace], void> {
  readonly #gateUp: MergedColumnParallelLinear
  readonly #act: SiluAndMul
  readonly #down: RowParallelLinear

  constructor(path: string, { hiddenSize, intermediateSize }: LlamaConfig, weights: WeightSource) {
    super('LlamaMLP', path)
    const shards = ['gate_proj', 'up_proj'].map((name) => ({
      path: this.childPath(name),
      outputs: intermediateSize,
    }))
    this.#gateUp = this.child(
      new MergedColumnParallelLinear(this.childPath('gate_up_proj'), hiddenSize, shards, weights),
    )
    this.#act = this.child(new SiluAndMul(this.childPath('act_fn')))
    this.#down = this.child(
      new RowParallelLinear(this.childPath('down_proj'), intermediateSize, hiddenSize, weights),
    )
  }

  protected forward({ hidden, gateUp, activated, tokens }: Workspace): void {
    this.#gateUp.call(gateUp, hidden, tokens)
    this.#act.call(activated, gateUp)
    this.#down.call(hidden, activated, tokens)
  }
}

type AttentionArgs = [positions: Tensor, workspace: Workspace, cache: LayerCache, metadata: AttentionMetadata]

/** The attention half of a layer: `hidden = o(attention(rotate(q(hidden)), rotate(k(hidden)), v(hidden)))`. */
export class LlamaAttention extends Module<AttentionArgs, void> {
  readonly #qkv: QKVParallelLinear
  readonly #rotary: RotaryEmbedding
  readonly #attention: Attention
  readonly #output: RowParallelLinear

  constructor(path: string, config: LlamaConfig, cosSinCache: Tensor, weights: WeightSource) {
    super('LlamaAttention', path)
    const { hiddenSize, headDim } = config
    const queries = config.numAttentionHeads * headDim
    const keys = config.numKeyValueHeads * headDim
    const shard = (name: string, outputs: number) => ({ path: this.childPath(name), outputs })
    const shards = [shard('q_proj', queries), shard('k_proj', keys), shard('v_proj', keys)]
    this.#qkv = this.child(new QKVParallelLinear(this.childPath('qkv_proj'), hiddenSize, shards, weights))
    this.#rotary = this.child(new RotaryEmbedding(this.childPath('rotary_emb'), headDim, cosSinCache))
    this.#attention = this.child(new Attention(this.childPath('attn'), config))
    this.#output = this.child(new RowParallelLinear(this.childPath('o_proj'), queries, hiddenSize, weights))
  }

  protected forward(...[positions, workspace, cache, metadata]: AttentionArgs): void {
    const { hidden, qkv, attended, tokens } = workspace
    this.#qkv.call(qkv, hidden, tokens)
    this.#rotary.call(positions, workspace.query, workspace.key)
    this.#attention.call(workspace.views, cache, metadata)
    this.#output.call(hidden, attended, tokens)
  }
}

/** One layer: `residual` carries the sum, `hidden` what the next norm adds to it. */
export class LlamaDecoderLayer extends Module<AttentionArgs, void> {
  readonly #isFirst: boolean
  readonly #inputNorm: RMSNorm
  readonly #attention: LlamaAttention
  readonly #postAttentionNorm: RMSNorm
  readonly #mlp: LlamaMLP

  constructor(path: string, layer: number, config: LlamaConfig, cosSinCache: Tensor, weights: WeightSource) {
    super('LlamaDecoderLayer', path)
    const { hiddenSize, rmsNormEps } = config
    const norm = (name: string) =>
      this.child(new RMSNorm(this.childPath(name), hiddenSize, rmsNormEps, weights))
    this.#isFirst = layer === 0
    this.#inputNorm = norm('input_layernorm')
    this.#attention = this.child(
      new LlamaAttention(this.childPath('self_attn'), config, cosSinCache, weights),
    )
    this.#postAttentionNorm = norm('post_attention_layernorm')
    this.#mlp = this.child(new LlamaMLP(this.childPath('mlp'), config, weights))
  }

  protected forward(...[positions, workspace, cache, metadata]: AttentionArgs): void {
    const { hidden, residual } = workspace
    // The embedding lies in the residual: the first norm has nothing to add to it.
    if (this.#isFirst) this.#inputNorm.call(residual, undefined, hidden)
    else this.#inputNorm.call(hidden, residual)
    this.#attention.call(positions, workspace, cache, metadata)
    this.#postAttentionNorm.call(hidden, residual)
    this.#mlp.call(workspace)
  }
}

type ModelArgs = [
  inputIds: Tensor,
  positions: Tensor,
  workspace: Workspace,
  caches: readonly LayerCache[],
  metadata: AttentionMetadata,
]

/** The decoder: embedding, layers, last norm. */
export class LlamaModel extends Module<ModelArgs, void> {
  readonly embedTokens: VocabParallelEmbedding
  readonly #layers: readonly LlamaDecoderLayer[]
  readonly #norm: RMSNorm

  constructor(path: string, config: LlamaConfig, maxModelLen: number, weights: WeightSource) {
    super('LlamaModel', path)
    const { vocabSize, hiddenSize, rmsNormEps } = config
    const { dtype, device } = weights
    const embedding = new VocabParallelEmbedding(
      this.childPath('embed_tokens'),
      vocabSize,
      hiddenSize,
      weights,
    )
    this.embedTokens = this.child(embedding)
    const cosSinCache = this.own(createCosSinCache(config, maxModelLen, dtype, device))
    this.#layers = Array.from({ length: config.numHiddenLayers }, (_, i) =>
      this.child(new LlamaDecoderLayer(this.childPath(`layers.${i}`), i, config, cosSinCache, weights)),
    )
    this.#norm = this.child(new RMSNorm(this.childPath('norm'), hiddenSize, rmsNormEps, weights))
  }

  protected forward(...[inputIds, positions, workspace, caches, metadata]: ModelArgs): void {
    this.embedTokens.call(workspace.residual, inputIds)
    for (const [i, layer] of this.#layers.entries()) layer.call(positions, workspace, caches[i]!, metadata)
    this.#norm.call(workspace.hidden, workspace.residual)
  }
}

/** Batches up to this size, those of generating sequences, keep their activations' memory for the next step. */
const KEPT_WORKSPACE_TOKENS = 64

/** How a model is built, whatever its weights are. */
export interface ModelOptions {
  /** Positions for which rotary embeddings are prepared. Default: all that the model was trained for. */
  readonly maxModelLen?: number
}

type CausalLmArgs = [
  inputIds: Tensor,
  positions: Tensor,
  caches: readonly LayerCache[],
  metadata: AttentionMetadata,
  logitsIndices?: Tensor | undefined,
]

/** Prompts have ever new lengths, and for each of them cuDNN's attention would compile a plan, which takes longer than most prompts. */
function avoidPlans(): void {
  const others = sdpBackends().filter((name) => name !== 'cudnn_attention')
  if (others.length > 0) setSDPBackends(others)
}

/**
 * A Llama with its language-model head: token ids in, logits out. Making one takes `cudnn_attention` out of what
 * `scaled_dot_product_attention` may choose from ({@link setSDPBackends}).
 */
export class LlamaForCausalLM extends Module<CausalLmArgs, Tensor> {
  readonly dtype: ModelDType
  readonly device: string
  readonly #model: LlamaModel
  readonly #lmHead: ParallelLMHead
  readonly #logitsProcessor: LogitsProcessor
  readonly #workspaces = new Map<number, Workspace>()

  constructor(
    readonly config: LlamaConfig,
    weights: WeightSource,
    { maxModelLen = config.maxPositionEmbeddings }: ModelOptions = {},
  ) {
    super('LlamaForCausalLM', '')
    avoidPlans()
    const { vocabSize, hiddenSize, tieWordEmbeddings } = config
    this.dtype = weights.dtype
    this.device = weights.device
    this.#model = this.child(new LlamaModel('model', config, maxModelLen, weights))
    const tied = tieWordEmbeddings ? this.#model.embedTokens : undefined
    this.#lmHead = this.child(new ParallelLMHead('lm_head', vocabSize, hiddenSize, weights, tied))
    this.#logitsProcessor = this.child(new LogitsProcessor('logits_processor', vocabSize))
  }

  /** A model of this shape with random weights, to measure with. */
  static dummy(
    config: LlamaConfig,
    options: ModelOptions & { readonly dtype?: ModelDType; readonly device?: string } = {},
  ): LlamaForCausalLM {
    return new LlamaForCausalLM(config, new DummyWeights(options), options)
  }

  /**
   * @param inputIds int64 `[tokens]`
   * @param positions int64 `[tokens]`: the place of each token in its sequence
   * @param caches one for each layer; the tokens' keys and values are written into them
   * @param logitsIndices int64: of which tokens to compute logits; all where nothing is given
   * @returns float32 `[logitsIndices, vocabulary]`
   */
  protected forward(...[inputIds, positions, caches, metadata, logitsIndices]: CausalLmArgs): Tensor {
    const tokens = inputIds.numel
    const workspace =
      this.#workspaces.get(tokens) ?? new Workspace(this.config, tokens, this.dtype, this.device)
    try {
      scope(() => {
        const biased = withAttnBiases(metadata, this.dtype, this.device)
        this.#model.call(inputIds, positions, workspace, caches, biased)
      })
      return this.#logitsProcessor.call(this.#lmHead, workspace.hidden, logitsIndices)
    } finally {
      if (tokens <= KEPT_WORKSPACE_TOKENS) this.#workspaces.set(tokens, workspace)
      else workspace.dispose()
    }
  }

  override dispose(): void {
    super.dispose()
    for (const workspace of this.#workspaces.values()) workspace.dispose()
    this.#workspaces.clear()
  }
}
