// SPDX-License-Identifier: Apache-2.0
import type { SampledToken } from '../modules/sampler'
import { Random, randomSeed } from '../sampling/random'
import type { ResolvedSamplingParams } from '../sampling/sampling-params'
import type { Detokenizer } from '../tokenizer/detokenizer'
import { StopChecker } from './stop-checker'

/** Why a generation ended: the model or a stop condition ended it, or there was no room for more. */
export type FinishReason = 'stop' | 'length'

/** How long a generation took. Rates are NaN where nothing was measured. */
export interface GenerationMetrics {
  readonly promptTokens: number
  readonly generatedTokens: number
  /** From the first step that worked on the prompt to the first token. */
  readonly prefillMs: number
  /** From the first token to the last. */
  readonly decodeMs: number
  readonly prefillTokensPerSecond: number
  /** Of the tokens after the first. */
  readonly decodeTokensPerSecond: number
}

/** One generated token. */
export interface GeneratedToken extends SampledToken {
  /** The text that became certain with this token; empty while a character or a stop text may be incomplete. */
  readonly text: string
  /** Set on the last token. */
  readonly finishReason?: FinishReason
  /** Set on the last token. */
  readonly metrics?: GenerationMetrics
  /** Set on the first token if asked for: for each token of the prompt but the first. */
  readonly promptLogprobs?: readonly Required<SampledToken>[]
}

/** What a sequence needs to know of the model. */
export interface SequenceContext {
  readonly params: ResolvedSamplingParams
  readonly endOfGenerationIds: readonly number[]
  readonly maxModelLen: number
  readonly detokenizer: Detokenizer
}

/** One prompt and what was generated for it so far. */
export class Sequence {
  /** The prompt, then the generated tokens. */
  readonly tokenIds: number[]
  readonly promptLength: number
  readonly params: ResolvedSamplingParams
  readonly random: Random
  /** The blocks of the cache that hold its keys and values. */
  readonly blocks: number[] = []
  /** How many of its tokens are in the cache. */
  numComputed = 0
  readonly promptLogprobs: Required<SampledToken>[] = []

  readonly #context: SequenceContext
  readonly #stops: StopChecker
  #prefillStart = Number.NaN
  #firstToken = Number.NaN

  constructor(prompt: readonly number[], context: SequenceContext) {
    const { params } = context
    this.tokenIds = [...prompt]
    this.promptLength = prompt.length
    this.params = params
    this.random = new Random(params.seed ?? randomSeed())
    this.#context = context
    this.#stops = new StopChecker(params.stop)
  }

  /** Tokens whose keys and values are not in the cache yet. */
  get numUncomputed(): number {
    return this.tokenIds.length - this.numComputed
  }

  /** Whether its next step computes one token and needs nothing but the cache. */
  get isGenerating(): boolean {
    return this.numComputed > 0 && this.numUncomputed === 1
  }

  /** To be called when the first step that works on this sequence begins. */
  startClock(): void {
    if (Number.isNaN(this.#prefillStart)) this.#prefillStart = performance.now()
  }

  /** Appends a sampled token and says what it means to the one who waits for it. */
  append(sampled: SampledToken): GeneratedToken {
    const now = performance.now()
    if (Number.isNaN(this.#firstToken)) this.#firstToken = now
    const isFirst = this.tokenIds.length === this.promptLength
    this.tokenIds.push(sampled.tokenId)
    const { params, endOfGenerationIds, detokenizer } = this.#context
    const { tokenId } = sampled
    const isEnd = !params.ignoreEos && endOfGenerationIds.includes(tokenId)
    const checked = isEnd ? { text: '', stopped: true } : this.#stops.push(detokenizer.push(tokenId))
    const stopped = checked.stopped || params.stopTokenIds.includes(tokenId)
    const finishReason = stopped ? 'stop' : this.#isFull() ? 'length' : undefined
    let { text } = checked
    if (finishReason && !(checked.stopped && !isEnd))
      text += this.#stops.push(detokenizer.end()).text + this.#stops.end()
    return {
      ...sampled,
      text,
      ...(isFirst && params.promptLogprobs !== undefined ? { promptLogprobs: this.promptLogprobs } : {}),
      ...(finishReason ? { finishReason, metrics: this.#metrics(now) } : {}),
    }
  }

  #isFull(): boolean {
    const generated = this.tokenIds.length - this.promptLength
    return generated >= this.params.maxTokens || this.tokenIds.length >= this.#context.maxModelLen
  }

  #metrics(now: number): GenerationMetrics {
    const generatedTokens = this.tokenIds.length - this.promptLength
    const prefillMs = this.#firstToken - this.#prefillStart
    const decodeMs = now - this.#firstToken
    return {
      promptTokens: this.promptLength,
      generatedTokens,
      prefillMs,
      decodeMs,
      prefillTokensPerSecond: (this.promptLength / prefillMs) * 1000,
      decodeTokensPerSecond: ((generatedTokens - 1) / decodeMs) * 1000,
    }
  }
}
