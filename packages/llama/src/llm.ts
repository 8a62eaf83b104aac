// SPDX-License-Identifier: Apache-2.0
import { ArgumentError, VllmOpsError } from '@vllm-ops/core'
import { type ChatMessage, ChatTemplate } from './chat'
import { configFromGguf, LLAMA_3_8B, type LlamaConfig } from './config'
import { Engine } from './engine/engine'
import { type FinishReason, type GeneratedToken, type GenerationMetrics, Sequence } from './engine/sequence'
import { ContextLengthError } from './errors'
import { openGguf } from './gguf/gguf'
import type { GgufMetadata } from './gguf/metadata'
import { blocksFor } from './kv-cache'
import { type ResolveModelOptions, resolveModel } from './models'
import { LlamaForCausalLM } from './modules/llama'
import type { SampledToken } from './modules/sampler'
import { resolveSamplingParams, type SamplingParams } from './sampling/sampling-params'
import { dummyTokenizer } from './tokenizer/dummy-tokenizer'
import { Tokenizer } from './tokenizer/tokenizer'
import { GgufWeights } from './weights/gguf-weights'
import type { ModelDType } from './weights/weight-source'

/** How a model is loaded. */
export interface LoadOptions extends ResolveModelOptions {
  /** What weights, activations and cache are kept in. Default `bfloat16`. */
  readonly dtype?: ModelDType
  /** Where the model runs: any device that a backend in use has. Default `cpu`. */
  readonly device?: string
  /** Tokens of a prompt and its continuation at most. Default: what the model was trained for, but no more than 8192. */
  readonly maxModelLen?: number
  /** Tokens that the KV cache holds, for all sequences that run at the same time together. Default: `maxModelLen`. */
  readonly kvCacheTokens?: number
  /** Tokens that one step computes at most; the event loop gets a turn after each step. Default 512. */
  readonly maxNumBatchedTokens?: number
  /** Sequences that run at the same time at most; others wait. Default 64. */
  readonly maxNumSeqs?: number
  /** Never captures steps as graphs, on devices where that can be done. Default false. */
  readonly enforceEager?: boolean
}

/** Sampling parameters, and a signal that ends the generation. */
export interface GenerateOptions extends SamplingParams {
  /** Its reason is what the generation then throws. */
  readonly signal?: AbortSignal
}

/** A finished generation. */
export interface Completion {
  readonly promptTokenIds: readonly number[]
  /** With the token that ended it, if one did. */
  readonly tokenIds: readonly number[]
  readonly text: string
  readonly finishReason: FinishReason
  readonly metrics: GenerationMetrics
  /** Of each generated token, if asked for. */
  readonly logprobs?: readonly Required<SampledToken>[]
  /** Of each token of the prompt but the first, if asked for. */
  readonly promptLogprobs?: readonly Required<SampledToken>[]
}

/** How a model with random weights is made: as one that is loaded, but for where that is found. */
export type DummyOptions = Omit<LoadOptions, keyof ResolveModelOptions>

const DEFAULT_MAX_MODEL_LEN = 8192
const DTYPES: readonly ModelDType[] = ['float32', 'float16', 'bfloat16']

/** The parts of a loaded model. */
interface Parts {
  readonly path: string
  readonly metadata: GgufMetadata
  readonly tokenizer: Tokenizer
  readonly model: LlamaForCausalLM
  readonly engine: Engine
  readonly maxModelLen: number
  readonly loadMs: number
}

/**
 * A Llama model, ready to answer. Backends are put in use beforehand (`use(cpu)`). Generations may run at the same time: they are
 * batched.
 */
export class LLM {
  /** The model file; what stands for it where there is none. */
  readonly path: string
  readonly metadata: GgufMetadata
  readonly tokenizer: Tokenizer
  readonly chatTemplate: ChatTemplate
  /** The modules, for whoever wants to run them directly. */
  readonly model: LlamaForCausalLM
  readonly maxModelLen: number
  /** How long {@link LLM.load} took, without fetching the file. */
  readonly loadMs: number
  readonly #engine: Engine
  #disposed = false

  private constructor({ path, metadata, tokenizer, model, engine, maxModelLen, loadMs }: Parts) {
    this.path = path
    this.metadata = metadata
    this.tokenizer = tokenizer
    this.chatTemplate = new ChatTemplate(metadata, tokenizer)
    this.model = model
    this.maxModelLen = maxModelLen
    this.loadMs = loadMs
    this.#engine = engine
  }

  /**
   * Loads a model by name (see {@link MODELS}) or from a GGUF file.
   *
   * @throws ModelFormatError for a file that is damaged or not supported; ArgumentError for an option out of range; what
   * {@link resolveModel} throws
   */
  static async load(nameOrFile?: string, options: LoadOptions = {}): Promise<LLM> {
    const { dtype, device } = resolvePlace(options)
    const path = await resolveModel(nameOrFile, options)
    const start = performance.now()
    const file = await openGguf(path)
    const { metadata } = file
    const config = configFromGguf(file)
    const limits = resolveLimits(options, config)
    const tokenizer = new Tokenizer(metadata)
    if (tokenizer.vocab.length > config.vocabSize) {
      const message = `it has ${tokenizer.vocab.length} tokens, the embedding only ${config.vocabSize}`
      throw metadata.error('tokenizer.ggml.tokens', message)
    }
    const { maxModelLen } = limits
    const weights = new GgufWeights(file, config, dtype, device)
    const model = new LlamaForCausalLM(config, weights, { maxModelLen })
    weights.requireAllUsed()
    weights.dispose()
    const engine = new Engine(model, limits)
    return new LLM({
      path,
      metadata,
      tokenizer,
      model,
      engine,
      maxModelLen,
      loadMs: performance.now() - start,
    })
  }

  /**
   * A model of some shape (see {@link SHAPES}) with random weights, to measure with: what it writes has no meaning. Its tokens are the 256
   * bytes and fillers.
   *
   * @throws ArgumentError for an option out of range
   */
  static dummy(config: LlamaConfig = LLAMA_3_8B, options: DummyOptions = {}): LLM {
    const place = resolvePlace(options)
    const start = performance.now()
    const limits = resolveLimits(options, config)
    const metadata = dummyTokenizer(config.vocabSize)
    const tokenizer = new Tokenizer(metadata)
    const { maxModelLen } = limits
    const model = LlamaForCausalLM.dummy(config, { ...place, maxModelLen })
    const engine = new Engine(model, limits)
    const loadMs = performance.now() - start
    return new LLM({ path: metadata.file, metadata, tokenizer, model, engine, maxModelLen, loadMs })
  }

  /** The shape of the model. */
  get config(): LlamaConfig {
    return this.model.config
  }

  /** What weights, activations and cache are kept in. */
  get dtype(): ModelDType {
    return this.model.dtype
  }

  /** Where the model runs. */
  get device(): string {
    return this.model.device
  }

  /**
   * Continues a prompt, token by token. In a text, control tokens are recognized.
   *
   * @throws ContextLengthError if the prompt leaves no room for a token; ArgumentError for parameters out of range; the reason
   * of an abort
   */
  generate(
    prompt: string | readonly number[],
    options: GenerateOptions = {},
  ): AsyncGenerator<GeneratedToken, void, undefined> {
    return this.#engine.run(this.#sequence(this.#encode(prompt), options), options.signal)
  }

  /** Answers a conversation, token by token, by the model's chat template. Throws like {@link LLM.generate}. */
  chat(
    messages: readonly ChatMessage[],
    options: GenerateOptions = {},
  ): AsyncGenerator<GeneratedToken, void, undefined> {
    return this.generate(this.chatTemplate.encode(messages), options)
  }

  /** Continues a prompt and returns everything at once. Throws like {@link LLM.generate}. */
  async complete(prompt: string | readonly number[], options: GenerateOptions = {}): Promise<Completion> {
    const promptTokenIds = this.#encode(prompt)
    const tokens: GeneratedToken[] = []
    for await (const token of this.generate(promptTokenIds, options)) tokens.push(token)
    const { finishReason, metrics } = tokens.at(-1)!
    const { promptLogprobs } = tokens[0]!
    const logprobs = tokens.flatMap(({ tokenId, logprob, topLogprobs }) =>
      logprob !== undefined && topLogprobs ? [{ tokenId, logprob, topLogprobs }] : [],
    )
    return {
      promptTokenIds,
      tokenIds: tokens.map(({ tokenId }) => tokenId),
      text: tokens.map(({ text }) => text).join(''),
      finishReason: finishReason!,
      metrics: metrics!,
      ...(logprobs.length > 0 ? { logprobs } : {}),
      ...(promptLogprobs ? { promptLogprobs } : {}),
    }
  }

  /** Frees the weights and the cache. Generations that still run end with an error. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#engine.dispose(disposedError())
    this.model.dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }

  #encode(prompt: string | readonly number[]): readonly number[] {
    return typeof prompt === 'string' ? this.tokenizer.encode(prompt, { parseSpecial: true }) : prompt
  }

  #sequence(prompt: readonly number[], options: GenerateOptions): Sequence {
    if (this.#disposed) throw disposedError()
    const { vocabSize } = this.config
    const wrong = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabSize)
    if (prompt.length === 0) throw new ArgumentError('LLM.generate', 'prompt', 'at least one token', 'none')
    if (wrong !== undefined) {
      throw new ArgumentError('LLM.generate', 'prompt', `token ids from 0 to ${vocabSize - 1}`, String(wrong))
    }
    if (prompt.length + 1 > this.maxModelLen)
      throw new ContextLengthError(prompt.length + 1, this.maxModelLen)
    return new Sequence(prompt, {
      params: resolveSamplingParams(options, vocabSize),
      endOfGenerationIds: this.tokenizer.endOfGenerationIds,
      maxModelLen: this.maxModelLen,
      detokenizer: this.tokenizer.detokenizer({ skipSpecial: true }),
    })
  }
}

function resolvePlace({ dtype = 'bfloat16', device = 'cpu' }: DummyOptions) {
  if (!DTYPES.includes(dtype)) throw new ArgumentError('LLM.load', 'dtype', DTYPES.join(', '), String(dtype))
  return { dtype, device }
}

function resolveLimits(options: DummyOptions, config: LlamaConfig) {
  const trained = config.maxPositionEmbeddings
  const maxModelLen = options.maxModelLen ?? Math.min(trained, DEFAULT_MAX_MODEL_LEN)
  const { kvCacheTokens = maxModelLen, maxNumBatchedTokens = 512, maxNumSeqs = 64 } = options
  const check = (name: string, value: number, min: number, max = Number.MAX_SAFE_INTEGER) => {
    if (Number.isInteger(value) && value >= min && value <= max) return
    throw new ArgumentError('LLM.load', name, `a whole number from ${min} to ${max}`, String(value))
  }
  check('maxModelLen', maxModelLen, 2, trained)
  check('kvCacheTokens', kvCacheTokens, maxModelLen)
  check('maxNumBatchedTokens', maxNumBatchedTokens, 1)
  check('maxNumSeqs', maxNumSeqs, 1)
  const numBlocks = blocksFor(kvCacheTokens)
  const eager = options.enforceEager ? { capture: undefined } : {}
  return { maxModelLen, maxNumBatchedTokens, maxNumSeqs, numBlocks, ...eager }
}

function disposedError(): VllmOpsError {
  return new VllmOpsError('E_ARGUMENT', 'the model was disposed', { fix: 'Load it again: LLM.load()' })
}
