// SPDX-License-Identifier: Apache-2.0
import { ArgumentError } from '@vllm-ops/core'

/** How to continue a prompt. The names and their meaning are those of vLLM's `SamplingParams`. */
export interface SamplingParams {
  /** Tokens to generate at most. Default: as many as fit into the context. */
  readonly maxTokens?: number
  /** Divides the logits before the softmax; 0, the default, takes the most likely token always. */
  readonly temperature?: number
  /** Keeps the `topK` most likely tokens; 0, the default, keeps all. */
  readonly topK?: number
  /** Keeps the fewest most likely tokens whose probabilities reach this sum; 1, the default, keeps all. */
  readonly topP?: number
  /** Start of the random numbers, 0 to 2^53 - 1: the same seed gives the same text. Default: another one each time. */
  readonly seed?: number
  /** Texts that end the generation; the output ends before the text. */
  readonly stop?: string | readonly string[]
  /** Tokens that end the generation, besides the model's own. */
  readonly stopTokenIds?: readonly number[]
  /** Goes on after the model's end-of-generation tokens. Default false. */
  readonly ignoreEos?: boolean
  /** Reports the log-probability of each generated token and of this many most likely ones. */
  readonly logprobs?: number
  /** Reports the same for each token of the prompt but the first. */
  readonly promptLogprobs?: number
}

/** Sampling parameters with every default filled in. */
export interface ResolvedSamplingParams {
  readonly maxTokens: number
  readonly temperature: number
  readonly topK: number
  readonly topP: number
  readonly seed: number | undefined
  readonly stop: readonly string[]
  readonly stopTokenIds: readonly number[]
  readonly ignoreEos: boolean
  readonly logprobs: number | undefined
  readonly promptLogprobs: number | undefined
}

/** Fills in the defaults. Throws {@link ArgumentError} for a value outside its range. */
export function resolveSamplingParams(params: SamplingParams, vocabSize: number): ResolvedSamplingParams {
  const whole = (name: string, value: number, min: number, max: number) =>
    check(
      name,
      Number.isInteger(value) && value >= min && value <= max,
      `a whole number from ${min} to ${max}`,
      value,
    )
  const {
    maxTokens = Number.MAX_SAFE_INTEGER,
    temperature = 0,
    topK = 0,
    topP = 1,
    seed,
    logprobs,
    promptLogprobs,
  } = params
  whole('maxTokens', maxTokens, 1, Number.MAX_SAFE_INTEGER)
  check(
    'temperature',
    temperature >= 0 && temperature < Number.POSITIVE_INFINITY,
    'a number of at least 0',
    temperature,
  )
  whole('topK', topK, 0, Number.MAX_SAFE_INTEGER)
  check('topP', topP > 0 && topP <= 1, 'a number above 0 and at most 1', topP)
  if (seed !== undefined) whole('seed', seed, 0, Number.MAX_SAFE_INTEGER)
  if (logprobs !== undefined) whole('logprobs', logprobs, 0, vocabSize)
  if (promptLogprobs !== undefined) whole('promptLogprobs', promptLogprobs, 0, vocabSize)
  const stop = typeof params.stop === 'string' ? [params.stop] : (params.stop ?? [])
  for (const text of stop)
    check('stop', typeof text === 'string' && text !== '', 'texts that are not empty', text)
  const stopTokenIds = params.stopTokenIds ?? []
  for (const id of stopTokenIds) whole('stopTokenIds', id, 0, vocabSize - 1)
  const ignoreEos = params.ignoreEos ?? false
  return { maxTokens, temperature, topK, topP, seed, stop, stopTokenIds, ignoreEos, logprobs, promptLogprobs }
}

function check(name: string, ok: boolean, expected: string, received: unknown): void {
  if (!ok)
    throw new ArgumentError('SamplingParams', name, expected, JSON.stringify(received) ?? String(received))
}
