// SPDX-License-Identifier: Apache-2.0
import { scope, type Tensor, torch } from '@vllm-ops/core'
import type { Random } from '../sampling/random'
import { type Logprob, logprobsOf, sampleToken } from '../sampling/sample'
import type { ResolvedSamplingParams } from '../sampling/sampling-params'
import { topIndices } from '../sampling/select'
import { Module } from './module'

/** What a token is to be chosen for. */
export interface SamplingRequest {
  readonly params: Pick<ResolvedSamplingParams, 'temperature' | 'topK' | 'topP' | 'logprobs'>
  readonly random: Random
}

/** A chosen token. */
export interface SampledToken {
  readonly tokenId: number
  /** Its log-probability, before temperature, `topK` and `topP`; only if asked for. */
  readonly logprob?: number
  /** The most likely tokens, most likely first; only if asked for. */
  readonly topLogprobs?: readonly Logprob[]
}

/**
 * Chooses the next token of each sequence. Greedy choices are an argmax on the device; everything else is computed in float32 on
 * the host, so that a seed means the same on every device.
 */
export class Sampler extends Module<
  [logits: Tensor, requests: readonly SamplingRequest[], greedy?: Tensor | undefined],
  SampledToken[]
> {
  constructor(path: string) {
    super('Sampler', path)
  }

  /**
   * @param logits float32 `[requests, vocabulary]`
   * @param greedy int64 `[requests]`: their argmax, where it is known already
   */
  protected forward(
    logits: Tensor,
    requests: readonly SamplingRequest[],
    greedy?: Tensor | undefined,
  ): SampledToken[] {
    return scope(() => {
      if (requests.every(({ params }) => params.temperature === 0 && params.logprobs === undefined)) {
        const best: Tensor = greedy ?? torch.aten.argmax(logits, -1)
        const ids = best.to({ device: 'cpu' }).data() as BigInt64Array
        return Array.from(ids, (id) => ({ tokenId: Number(id) }))
      }
      const rows = hostRows(logits)
      return requests.map((request, i) => choose(rows(i), request))
    })
  }
}

function choose(logits: Float32Array, { params, random }: SamplingRequest): SampledToken {
  const tokenId =
    params.temperature === 0 ? topIndices(logits, 1)[0]! : sampleToken(logits, params, random.uniform())
  if (params.logprobs === undefined) return { tokenId }
  const { logprob, top } = logprobsOf(logits, tokenId, params.logprobs)
  return { tokenId, logprob, topLogprobs: top }
}

/** The rows of a matrix of float32 logits on the host. */
export function hostRows(logits: Tensor): (row: number) => Float32Array {
  const width = logits.shape.at(-1)!
  const data = logits.to({ device: 'cpu' }).data() as Float32Array
  return (row) => data.subarray(row * width, (row + 1) * width)
}
