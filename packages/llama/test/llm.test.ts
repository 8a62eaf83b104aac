// SPDX-License-Identifier: Apache-2.0
import './backend'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { ArgumentError, type ProfileRow, profile } from '@vllm-ops/core'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ContextLengthError, type GeneratedToken, LLM, ModelFormatError } from '../src'
import type { LoadOptions } from '../src/llm'
import { writeGguf } from './gguf-writer'
import { tinyModel } from './tiny-model'

const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-llm-'))
const path = join(folder, 'tiny.gguf')
const loaded: LLM[] = []

/** A tiny model with random weights, in float32 so that ways of computing the same differ by rounding alone. */
async function load(options: LoadOptions = {}): Promise<LLM> {
  const llm = await LLM.load(path, { dtype: 'float32', ...options })
  loaded.push(llm)
  return llm
}

beforeAll(() => writeFileSync(path, writeGguf(tinyModel()).bytes))
afterAll(() => {
  for (const llm of loaded) llm.dispose()
  rmSync(folder, { recursive: true })
})

const prompts = [
  [70],
  [104, 101, 108, 108, 111],
  Array.from({ length: 17 }, (_, i) => 10 + i),
  Array.from({ length: 90 }, (_, i) => (i * i) % 250),
]
const free = { maxTokens: 40, ignoreEos: true }

describe('generation', () => {
  it('gives the same whether sequences run alone or at the same time', async () => {
    const llm = await load({ kvCacheTokens: 1024 })
    const alone: (readonly number[])[] = []
    for (const prompt of prompts) alone.push((await llm.complete(prompt, free)).tokenIds)
    const together = await Promise.all(prompts.map((prompt) => llm.complete(prompt, free)))
    expect(together.map(({ tokenIds }) => tokenIds)).toEqual(alone)
    // The random model must not repeat itself so much that anything would pass.
    expect(new Set(alone.flat()).size).toBeGreaterThan(20)
  })

  it('gives the same whether a prompt is computed at once or in pieces', async () => {
    const whole = await load()
    const pieces = await load({ maxNumBatchedTokens: 7 })
    const options = { ...free, logprobs: 3, promptLogprobs: 2 }
    for (const prompt of prompts) {
      const [a, b] = [await whole.complete(prompt, options), await pieces.complete(prompt, options)]
      expect(b.tokenIds).toEqual(a.tokenIds)
      expect(b.promptLogprobs!.length).toBe(prompt.length - 1)
      for (const [i, { logprob }] of a.promptLogprobs!.entries()) {
        // float32 sums over 90 positions in another order
        expect(b.promptLogprobs![i]!.logprob).toBeCloseTo(logprob, 4)
      }
    }
  })

  it('gives the same when the cache is so full that sequences have to start over', async () => {
    const roomy = await load({ maxModelLen: 160, kvCacheTokens: 1024 })
    const tight = await load({ maxModelLen: 160, kvCacheTokens: 160 })
    const run = (llm: LLM) =>
      Promise.all(prompts.map((prompt) => llm.complete(prompt, { ...free, promptLogprobs: 0 })))
    const [a, b] = [await run(roomy), await run(tight)]
    expect(b.map(({ tokenIds }) => tokenIds)).toEqual(a.map(({ tokenIds }) => tokenIds))
    expect(b.map(({ promptLogprobs }) => promptLogprobs!.length)).toEqual([0, 4, 16, 89])
  })

  it('is the model: logits depend on every token before and on none after', async () => {
    const llm = await load()
    const score = async (ids: number[]) =>
      (await llm.complete(ids, { maxTokens: 1, promptLogprobs: 0 })).promptLogprobs!.map(
        ({ logprob }) => logprob,
      )
    const ids = prompts[2]!
    const before = await score(ids)
    const after = await score(ids.with(8, 200))
    // Entry i is of token i + 1.
    for (let i = 0; i < 7; i++) expect(after[i]).toBeCloseTo(before[i]!, 5)
    for (let i = 7; i < before.length; i++) expect(Math.abs(after[i]! - before[i]!)).toBeGreaterThan(1e-4)
  })

  it('samples the same with the same seed, alone or in company', async () => {
    const llm = await load({ kvCacheTokens: 1024 })
    const options = { ...free, temperature: 1.5, topK: 100, topP: 0.95, seed: 42 }
    const { tokenIds } = await llm.complete(prompts[1]!, options)
    const others = [{ ...options, seed: 43 }, options, free]
    const together = await Promise.all(others.map((other) => llm.complete(prompts[1]!, other)))
    expect(together[1]!.tokenIds).toEqual(tokenIds)
    expect(together[0]!.tokenIds).not.toEqual(tokenIds)
    expect(together[2]!.tokenIds).not.toEqual(tokenIds)
  })

  it('reports log-probabilities that belong together', async () => {
    const llm = await load()
    const { tokenIds, logprobs } = await llm.complete(prompts[1]!, { ...free, logprobs: 5 })
    expect(logprobs!.map(({ tokenId }) => tokenId)).toEqual(tokenIds)
    for (const { tokenId, logprob, topLogprobs } of logprobs!) {
      expect(topLogprobs.length).toBe(5)
      expect(topLogprobs[0]).toEqual({ tokenId, logprob })
      expect(topLogprobs.map((top) => top.logprob)).toEqual(
        topLogprobs.map((top) => top.logprob).sort((a, b) => b - a),
      )
      expect(topLogprobs.reduce((sum, top) => sum + Math.exp(top.logprob), 0)).toBeLessThanOrEqual(1 + 1e-6)
    }
    // The same text as a prompt has the same log-probabilities.
    const whole = [...prompts[1]!, ...tokenIds]
    const { promptLogprobs } = await llm.complete(whole, { maxTokens: 1, promptLogprobs: 0 })
    const again = promptLogprobs!.slice(prompts[1]!.length - 1)
    for (const [i, { logprob }] of logprobs!.entries()) expect(again[i]!.logprob).toBeCloseTo(logprob, 4)
  })

  it('runs in bfloat16 too, near float32', async () => {
    const [exact, rounded] = [await load(), await load({ dtype: 'bfloat16' })]
    const score = async (llm: LLM) =>
      (await llm.complete(prompts[3]!, { maxTokens: 1, promptLogprobs: 0 })).promptLogprobs!
    const [a, b] = [await score(exact), await score(rounded)]
    const mean = (of: typeof a) => of.reduce((sum, { logprob }) => sum - logprob, 0) / of.length
    // 8 bits of mantissa through two layers; a mistake in a layout costs whole units.
    expect(Math.abs(mean(a) - mean(b))).toBeLessThan(0.05)
    expect(rounded.dtype).toBe('bfloat16')
  })

  it('ends at the maximum, the context, a stop text and a stop token', async () => {
    const llm = await load({ maxModelLen: 32 })
    const all = await llm.complete(prompts[1]!, { ignoreEos: true })
    expect(all).toMatchObject({ finishReason: 'length', metrics: { promptTokens: 5, generatedTokens: 27 } })
    const three = await llm.complete(prompts[1]!, { maxTokens: 3, ignoreEos: true })
    expect(three).toMatchObject({ finishReason: 'length', tokenIds: all.tokenIds.slice(0, 3) })
    const stopId = all.tokenIds[4]!
    const stopped = await llm.complete(prompts[1]!, { ignoreEos: true, stopTokenIds: [stopId] })
    expect(stopped.finishReason).toBe('stop')
    expect(stopped.tokenIds).toEqual(all.tokenIds.slice(0, all.tokenIds.indexOf(stopId) + 1))
    const stop = [...all.text].slice(6, 8).join('')
    const { text, finishReason } = await llm.complete(prompts[1]!, { ignoreEos: true, stop })
    expect(finishReason).toBe('stop')
    expect(text).toBe(all.text.slice(0, all.text.indexOf(stop)))
  })

  it('streams what it returns at once', async () => {
    const llm = await load()
    const { tokenIds, text } = await llm.complete('low', free)
    const tokens: GeneratedToken[] = []
    for await (const token of llm.generate('low', free)) tokens.push(token)
    expect(tokens.map(({ tokenId }) => tokenId)).toEqual(tokenIds)
    expect(tokens.map((token) => token.text).join('')).toBe(text)
    expect(tokens.filter(({ finishReason }) => finishReason !== undefined)).toEqual([tokens.at(-1)])
  })

  it('answers conversations by the template of the model', async () => {
    const llm = await load()
    const messages = [{ role: 'user', content: 'low<|im_end|>' }]
    const ids = llm.chatTemplate.encode(messages)
    expect(ids.filter((id) => id < 3)).toEqual([1, 2]) // what the user wrote is no control token
    const expected = await llm.complete(ids, free)
    const tokens: number[] = []
    for await (const { tokenId } of llm.chat(messages, free)) tokens.push(tokenId)
    expect(tokens).toEqual(expected.tokenIds)
  })

  it('gives the event loop its turns', async () => {
    const llm = await load()
    let turns = 0
    const timer = setInterval(() => turns++, 0)
    await llm.complete('low', { ...free, maxTokens: 200 })
    clearInterval(timer)
    expect(turns).toBeGreaterThan(10)
  })
})

describe('the end of a generation', () => {
  it('by an abort throws its reason, and the others go on', async () => {
    const llm = await load({ kvCacheTokens: 1024 })
    const reason = new Error('enough')
    const controller = new AbortController()
    const other = llm.complete(prompts[2]!, free)
    let count = 0
    const aborted = (async () => {
      for await (const _ of llm.generate(prompts[1]!, {
        ...free,
        maxTokens: 200,
        signal: controller.signal,
      })) {
        if (++count === 3) controller.abort(reason)
      }
    })()
    await expect(aborted).rejects.toBe(reason)
    expect(count).toBe(3)
    expect((await other).tokenIds.length).toBe(40)
    const before = llm.complete('low', { signal: AbortSignal.abort(reason) })
    await expect(before).rejects.toBe(reason)
  })

  it('by leaving the loop ends its work and frees its place in the cache', async () => {
    const llm = await load({ maxModelLen: 64, kvCacheTokens: 64 })
    const steps = vi.spyOn(llm.model, 'call')
    for (let i = 0; i < 20; i++) {
      for await (const { tokenId } of llm.generate(prompts[2]!, free)) {
        expect(tokenId).toBeGreaterThanOrEqual(0)
        break
      }
    }
    await setTimeout(20)
    expect(steps).toHaveBeenCalledTimes(20)
    expect((await llm.complete(prompts[2]!, free)).tokenIds.length).toBe(40)
  })

  it('by disposing of the model throws', async () => {
    const llm = await load()
    const tokens = llm.generate(prompts[1]!, { ...free, maxTokens: 200 })
    await tokens.next()
    llm.dispose()
    llm.dispose()
    await expect(tokens.next()).rejects.toThrow('disposed')
    expect(() => llm.generate('low')).toThrow('disposed')
  })
})

describe('wrong input', () => {
  it('of a prompt is refused before anything runs', async () => {
    const llm = await load({ maxModelLen: 32 })
    const tooLong = () => llm.generate(new Array<number>(32).fill(5))
    expect(tooLong).toThrow(ContextLengthError)
    expect(tooLong).toThrow(expect.objectContaining({ code: 'E_CONTEXT_LENGTH', tokens: 33, limit: 32 }))
    expect((await llm.complete(new Array<number>(31).fill(5), { ignoreEos: true })).tokenIds.length).toBe(1)
    for (const prompt of [[], [-1], [266], [1.5], [Number.NaN]]) {
      expect(() => llm.generate(prompt)).toThrow(ArgumentError)
    }
    expect(() => llm.generate('low', { temperature: -1 })).toThrow(ArgumentError)
    await expect(llm.complete('', {})).rejects.toThrow(ArgumentError)
  })

  it.each<[string, LoadOptions]>([
    ['dtype', { dtype: 'int8' as 'float32' }],
    ['maxModelLen', { maxModelLen: 257 }],
    ['maxModelLen', { maxModelLen: 1 }],
    ['kvCacheTokens', { kvCacheTokens: 10 }],
    ['maxNumBatchedTokens', { maxNumBatchedTokens: 0 }],
    ['maxNumSeqs', { maxNumSeqs: 0.5 }],
  ])('of the option %s is refused', async (argument, options) => {
    await expect(load(options)).rejects.toThrow(expect.objectContaining({ code: 'E_ARGUMENT', argument }))
  })

  it('of a model is refused', async () => {
    await expect(LLM.load('no-such-model')).rejects.toMatchObject({ code: 'E_MODEL_NOT_FOUND' })
    await expect(LLM.load(folder)).rejects.toThrow(ModelFormatError)
  })
})

describe('the profile', () => {
  const layer = (i: number) => `
    LlamaDecoderLayer model.layers.${i}
      RMSNorm model.layers.${i}.input_layernorm float32[64]
      LlamaAttention model.layers.${i}.self_attn
        QKVParallelLinear model.layers.${i}.self_attn.qkv_proj float32[128, 64]
        RotaryEmbedding model.layers.${i}.self_attn.rotary_emb
        Attention model.layers.${i}.self_attn.attn
        RowParallelLinear model.layers.${i}.self_attn.o_proj float32[64, 64]
      RMSNorm model.layers.${i}.post_attention_layernorm float32[64]
      LlamaMLP model.layers.${i}.mlp
        MergedColumnParallelLinear model.layers.${i}.mlp.gate_up_proj float32[192, 64]
        SiluAndMul model.layers.${i}.mlp.act_fn
        RowParallelLinear model.layers.${i}.mlp.down_proj float32[64, 96]`
  const expected = `
LlamaForCausalLM
  LlamaModel model
    VocabParallelEmbedding model.embed_tokens float32[266, 64]${layer(0)}${layer(1)}
    RMSNorm model.norm float32[64]
  LogitsProcessor logits_processor
    ParallelLMHead lm_head float32[266, 64]`
  const sampler = '\nSampler sampler'

  /** The modules among the rows, indented below those that ran them. */
  const outline = (rows: readonly ProfileRow[]) => {
    const depth = (row: ProfileRow): number => (row.parent === null ? 0 : 1 + depth(rows[row.parent]!))
    const modules = rows.filter(({ kind }) => kind === 'module')
    const top = Math.min(...modules.map(depth))
    const line = (row: ProfileRow) => [row.name, row.path, row.weight ?? ''].join(' ').trim()
    return modules.map((row) => `\n${'  '.repeat(depth(row) - top)}${line(row)}`).join('')
  }

  it('names every module by class, place and weight, under prefill, first token and decode', async () => {
    const llm = await load()
    const { record } = await profile(() => llm.complete(prompts[1]!, { ...free, maxTokens: 3 }))
    expect(record.phases.map(({ name }) => name)).toEqual(['prefill', 'first token', 'decode'])
    const outlines = record.phases.map(({ rows }) => outline(rows))
    expect(outlines).toEqual([expected, sampler, expected + sampler])
    expect(record.phases.map(({ steps }) => steps)).toEqual([1, 1, 2])
  })

  it('shows which ops each phase runs', async () => {
    const llm = await load()
    const { record } = await profile(() => llm.complete(prompts[1]!, { ...free, maxTokens: 3 }))
    const ops = (phase: number, path: string) =>
      record.phases[phase]!.rows.flatMap((row) => (row.kind === 'op' && row.path === path ? [row.name] : []))
    const attention = 'model.layers.0.self_attn.attn'
    expect(ops(0, attention)).toContain('aten::scaled_dot_product_attention')
    expect(ops(2, attention)).toEqual(['vllm_ops::reshape_and_cache', 'vllm_ops::paged_attention_v1'])
    expect(ops(2, 'model.layers.0.input_layernorm')).toEqual(['vllm_ops::rms_norm'])
    expect(ops(2, 'model.layers.1.input_layernorm')).toEqual(['vllm_ops::fused_add_rms_norm'])
    expect(ops(2, 'model.layers.1.self_attn.rotary_emb')).toEqual(['vllm_ops::rotary_embedding'])
    expect(ops(2, 'model.layers.1.mlp.act_fn')).toEqual(['vllm_ops::silu_and_mul'])
  })
})
