// SPDX-License-Identifier: Apache-2.0
import './backend'
import { manualSeed, scope, sdpBackends, setSDPBackends, zeros } from '@vllm-ops/core'
import { expect, it } from 'vitest'
import { createKvCache, LLAMA_3_8B, LLM, type LlamaConfig, LlamaForCausalLM } from '../src'
import { Engine } from '../src/engine/engine'
import { Sequence } from '../src/engine/sequence'
import { resolveSamplingParams } from '../src/sampling/sampling-params'
import { Detokenizer } from '../src/tokenizer/detokenizer'

const config: LlamaConfig = {
  ...LLAMA_3_8B,
  vocabSize: 100,
  hiddenSize: 64,
  intermediateSize: 80,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 1,
  headDim: 32,
  rotaryDim: 16,
  maxPositionEmbeddings: 64,
}

it.each(['float32', 'float16', 'bfloat16'] as const)('a model with random %s weights runs', async (dtype) => {
  manualSeed(1)
  const model = LlamaForCausalLM.dummy(config, { dtype })
  const engine = new Engine(model, {
    numBlocks: 4,
    maxNumBatchedTokens: 64,
    maxNumSeqs: 1,
    maxModelLen: 64,
  })
  const sequence = new Sequence([1, 2, 3], {
    params: resolveSamplingParams({ maxTokens: 20, ignoreEos: true, logprobs: 0 }, config.vocabSize),
    endOfGenerationIds: [],
    maxModelLen: 64,
    detokenizer: new Detokenizer((id) => Uint8Array.of(id)),
  })
  const logprobs: number[] = []
  for await (const { logprob } of engine.run(sequence)) logprobs.push(logprob!)
  engine.dispose(undefined)
  model.dispose()
  expect(logprobs.length).toBe(20)
  // Of 100 tokens the best has more than a hundredth and less than everything.
  for (const logprob of logprobs) expect(Math.exp(logprob)).toSatisfy((p: number) => p > 0.01 && p < 0.99)
})

it('writes text without a model file', async () => {
  manualSeed(1)
  const llm = LLM.dummy({ ...config, vocabSize: 300 }, { dtype: 'float32' })
  expect(llm.tokenizer.decode(llm.tokenizer.encode('naïve 12'))).toBe('naïve 12')
  expect(llm.chatTemplate.encode([{ role: 'user', content: 'ab' }])).toEqual(llm.tokenizer.encode('ab'))
  const { tokenIds, text, finishReason } = await llm.complete('hello', { maxTokens: 20 })
  expect(tokenIds).toHaveLength(20)
  expect(finishReason).toBe('length')
  expect(text).toBe(llm.tokenizer.decode(tokenIds))
  llm.dispose()
  expect(() => LLM.dummy(config, { maxModelLen: 65 })).toThrow(/maxModelLen/)
})

it('takes out the attention that compiles a plan for each length, unless there is no other', () => {
  const all = sdpBackends()
  const after = (backends: typeof all) => {
    setSDPBackends(backends)
    LlamaForCausalLM.dummy(config).dispose()
    return sdpBackends()
  }
  try {
    expect(after(['math', 'flash_attention', 'cudnn_attention'])).toEqual(['math', 'flash_attention'])
    expect(after(['cudnn_attention'])).toEqual(['cudnn_attention'])
  } finally {
    setSDPBackends(all)
  }
})

it('the shape of Llama 3 8B has 8.03 billion weights', () => {
  const model = LlamaForCausalLM.dummy(LLAMA_3_8B, { device: 'meta' })
  const weights = [...model.modules()].flatMap(({ info }) => info.weight ?? [])
  const sizes = weights.map((label) =>
    /\[(.+)\]/
      .exec(label)![1]!
      .split(', ')
      .reduce((a, b) => a * Number(b), 1),
  )
  expect(sizes.reduce((a, b) => a + b, 0)).toBe(8_030_261_248)
  model.dispose()
})

it('a step of the shape of Llama 3 8B is checked on the meta device, without its memory', () => {
  scope(() => {
    const device = 'meta'
    const model = LlamaForCausalLM.dummy(LLAMA_3_8B, { device, maxModelLen: 1024 })
    const caches = createKvCache(LLAMA_3_8B, 64, 'bfloat16', device)
    const longs = () => zeros([3], { dtype: 'int64', device })
    const ints = (...shape: number[]) => zeros(shape, { dtype: 'int32', device })
    const decode = { numTokens: 3, blockTables: ints(3, 64), seqLens: ints(3), maxSeqLen: 1024 }
    const metadata = { slotMapping: longs(), numPrefillTokens: 0, prefills: [], decode }
    const logits = model.call(longs(), longs(), caches, metadata)
    expect(logits).toMatchObject({ shape: [3, 128256], dtype: 'float32', device })
    model.dispose()
  })
})
