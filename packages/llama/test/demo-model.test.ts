// SPDX-License-Identifier: Apache-2.0
import './backend'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LLM, type ModelDType } from '../src'
import type { ChatMessage } from '../src/chat'

interface Fixture {
  origin: { implementation: string }
  prompts: {
    name: string
    messages?: ChatMessage[]
    text: string
    prompt_token_ids: number[]
    token_ids: number[]
    near_ties: { position: number }[]
    logits: { position: number; logsumexp: number; top: { id: number; logit: number }[] }[]
  }[]
  texts: { name: string; token_ids: number[]; mean_nll: number; nll: number[] }[]
}

const { origin, prompts, texts } = JSON.parse(
  readFileSync(new URL('./fixtures/greedy.json', import.meta.url), 'utf8'),
) as Fixture

const models = new Map<ModelDType, Promise<LLM>>()
const load = (dtype: ModelDType) => {
  const model = models.get(dtype) ?? LLM.load(undefined, { dtype })
  models.set(dtype, model)
  return model
}

/** What the model says of each token of a text but the first, given those before it. */
async function score(llm: LLM, ids: readonly number[], top = 0) {
  return (await llm.complete(ids, { maxTokens: 1, promptLogprobs: top })).promptLogprobs!
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length

afterAll(async () => {
  for (const model of models.values()) (await model).dispose()
})

it('has enough to compare with', () => {
  expect(prompts.length).toBeGreaterThanOrEqual(3)
  expect(texts.length).toBeGreaterThanOrEqual(3)
  expect(prompts.flatMap(({ logits }) => logits).length).toBeGreaterThan(20)
})

describe(`in float32, compared with a ${origin.implementation}`, () => {
  let llm: LLM
  beforeAll(async () => {
    llm = await load('float32')
  })

  it.each(prompts)('writes $name down as the same token ids', ({ messages, text, prompt_token_ids }) => {
    expect(llm.tokenizer.encode(text, { parseSpecial: true })).toEqual(prompt_token_ids)
    if (messages) expect(llm.chatTemplate.encode(messages)).toEqual(prompt_token_ids)
  })

  it.each(prompts)(
    'continues $name with the same tokens',
    async ({ prompt_token_ids, token_ids, near_ties }) => {
      const { tokenIds } = await llm.complete(prompt_token_ids, { maxTokens: token_ids.length })
      // From a near tie on, either continuation is right.
      const comparable = Math.min(...near_ties.map(({ position }) => position), token_ids.length)
      expect(tokenIds.slice(0, comparable)).toEqual(token_ids.slice(0, comparable))
    },
  )

  it.each(prompts)('has the same logits after $name', async ({ prompt_token_ids, token_ids, logits }) => {
    const ids = [...prompt_token_ids, ...token_ids]
    const scored = await score(llm, ids, 10)
    for (const { position, logsumexp, top } of logits) {
      const ours = scored[prompt_token_ids.length + position - 1]!.topLogprobs
      for (const { id, logit } of top.slice(0, 5)) {
        const found = ours.find(({ tokenId }) => tokenId === id)
        // The bound asked for is 0.05. Two float32 implementations differ by 1e-4 here; a mistake in any kernel by far more.
        expect(found?.logprob, `token ${id} at ${position}`).toBeCloseTo(logit - logsumexp, 2)
      }
    }
  })

  it.each(texts)('has the same losses on $name', async ({ token_ids, mean_nll, nll }) => {
    const ours = (await score(llm, token_ids)).map(({ logprob }) => -logprob)
    expect(Math.abs(mean(ours) - mean_nll)).toBeLessThan(1e-3)
    for (const [i, loss] of nll.entries())
      expect(Math.abs(ours[i]! - loss), `token ${i + 1}`).toBeLessThan(0.02)
  })

  it('gives the same tokens for all prompts at once', async () => {
    const outputs = await Promise.all(
      prompts.map(({ prompt_token_ids, token_ids }) =>
        llm.complete(prompt_token_ids, { maxTokens: token_ids.length }),
      ),
    )
    for (const [i, { token_ids, near_ties }] of prompts.entries()) {
      const comparable = Math.min(...near_ties.map(({ position }) => position), token_ids.length)
      expect(outputs[i]!.tokenIds.slice(0, comparable)).toEqual(token_ids.slice(0, comparable))
    }
  })
})

describe('in bfloat16, along the tokens of float32', () => {
  let llm: LLM
  beforeAll(async () => {
    llm = await load('bfloat16')
  })

  it.each(prompts)(
    'has near log-probabilities after $name',
    async ({ prompt_token_ids, token_ids, logits }) => {
      const scored = await score(llm, [...prompt_token_ids, ...token_ids], 20)
      for (const { position, logsumexp, top } of logits) {
        const ours = scored[prompt_token_ids.length + position - 1]!.topLogprobs
        for (const { id, logit } of top.slice(0, 5)) {
          const found = ours.find(({ tokenId }) => tokenId === id)
          expect(Math.abs(found!.logprob - (logit - logsumexp)), `token ${id} at ${position}`).toBeLessThan(
            0.3,
          )
        }
      }
    },
  )

  it('has near losses on texts', async () => {
    const losses = []
    for (const { token_ids } of texts)
      losses.push(...(await score(llm, token_ids)).map(({ logprob }) => -logprob))
    expect(Math.abs(mean(losses) - mean(texts.flatMap(({ nll }) => nll)))).toBeLessThan(0.02)
  })

  it('decodes as it prefills: the tokens that it chose have the log-probabilities that it said', async () => {
    const { prompt_token_ids } = prompts[0]!
    const { tokenIds, logprobs } = await llm.complete(prompt_token_ids, {
      maxTokens: 48,
      ignoreEos: true,
      logprobs: 0,
    })
    const again = (await score(llm, [...prompt_token_ids, ...tokenIds])).slice(prompt_token_ids.length - 1)
    for (const [i, { logprob }] of logprobs!.entries())
      expect(Math.abs(again[i]!.logprob - logprob)).toBeLessThan(0.3)
  })
})
