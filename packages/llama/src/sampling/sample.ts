// SPDX-License-Identifier: Apache-2.0
import { VllmOpsError } from '@vllm-ops/core'
import { topIndices } from './select'

/** What decides which tokens may be drawn, and how likely each is. */
export interface Distribution {
  /** Above 0. */
  readonly temperature: number
  /** 0 for all. */
  readonly topK: number
  /** 1 for all. */
  readonly topP: number
}

/**
 * Draws one token: softmax of `logits / temperature`, of it the `topK` most likely, of these the fewest most likely that reach
 * `topP` of their sum, and of the rest one by inverting the cumulative sum at `u` (0 to below 1).
 */
export function sampleToken(
  logits: Float32Array,
  { temperature, topK, topP }: Distribution,
  u: number,
): number {
  const ids =
    topK > 0 && topK < logits.length ? Uint32Array.from(topIndices(logits, topK)) : identity(logits.length)
  const weights = weigh(logits, ids, temperature)
  const kept = topP < 1 ? nucleus(ids, weights, topP) : undefined
  const count = kept?.length ?? ids.length
  let total = 0
  for (let i = 0; i < count; i++) total += weights[kept ? kept[i]! : i]!
  let rest = u * total
  let chosen = 0
  for (let i = 0; i < count && rest >= 0; i++) {
    const at = kept ? kept[i]! : i
    // Rounding can leave a rest of about 0 at the end: then it is the last token with any weight.
    if (weights[at]! > 0) chosen = at
    rest -= weights[at]!
  }
  return ids[chosen]!
}

/** `exp((logit - greatest logit) / temperature)` of each of the tokens. */
function weigh(logits: Float32Array, ids: Uint32Array, temperature: number): Float64Array {
  const max = greatest(logits)
  if (!Number.isFinite(max)) {
    throw new VllmOpsError('E_MODEL_FORMAT', 'the model computed no finite logits', {
      fix: 'Check its weights: download the file again',
    })
  }
  const weights = new Float64Array(ids.length)
  for (let i = 0; i < ids.length; i++) {
    const logit = logits[ids[i]!]!
    weights[i] = Number.isNaN(logit) ? 0 : Math.exp((logit - max) / temperature)
  }
  return weights
}

/** Which of the tokens, most likely first, are the fewest whose weights reach `topP` of the sum. */
function nucleus(ids: Uint32Array, weights: Float64Array, topP: number): number[] {
  let total = 0
  for (let i = 0; i < weights.length; i++) total += weights[i]!
  // Tokens below this weight are together lighter than the part outside the nucleus: they need no sorting.
  const least = ((1 - topP) * total) / weights.length
  const order: number[] = []
  for (let i = 0; i < weights.length; i++) if (weights[i]! >= least) order.push(i)
  order.sort((a, b) => weights[b]! - weights[a]! || ids[a]! - ids[b]!)
  let reached = 0
  const last = order.findIndex((i) => {
    reached += weights[i]!
    return reached >= topP * total
  })
  return last < 0 ? order : order.slice(0, last + 1)
}

/** One token and its log-probability. */
export interface Logprob {
  readonly tokenId: number
  readonly logprob: number
}

/** The log-probabilities of one token and of the `k` most likely ones (most likely first), before any temperature. */
export function logprobsOf(
  logits: Float32Array,
  tokenId: number,
  k: number,
): { logprob: number; top: Logprob[] } {
  const max = greatest(logits)
  let total = 0
  for (let i = 0; i < logits.length; i++) total += Math.exp(logits[i]! - max)
  const normalizer = max + Math.log(total)
  const top = k > 0 ? topIndices(logits, k) : []
  return {
    logprob: logits[tokenId]! - normalizer,
    top: top.map((id) => ({ tokenId: id, logprob: logits[id]! - normalizer })),
  }
}

function greatest(values: Float32Array): number {
  let max = Number.NEGATIVE_INFINITY
  for (let i = 0; i < values.length; i++) if (values[i]! > max) max = values[i]!
  return max
}

function identity(length: number): Uint32Array {
  const ids = new Uint32Array(length)
  for (let i = 0; i < length; i++) ids[i] = i
  return ids
}
