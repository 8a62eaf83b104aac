// SPDX-License-Identifier: Apache-2.0
import './backend'
import { keep, manualSeed, profile, scope, Tensor } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { LlamaForCausalLM } from '../src'
import { Engine } from '../src/engine/engine'
import { type Capture, type CapturedStep, paddedLength, paddedSize } from '../src/engine/model-runner'
import { Sequence } from '../src/engine/sequence'
import { resolveSamplingParams, type SamplingParams } from '../src/sampling/sampling-params'
import { Detokenizer } from '../src/tokenizer/detokenizer'

const config = {
  vocabSize: 100,
  hiddenSize: 64,
  intermediateSize: 80,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 16,
  rotaryDim: 16,
  ropeTheta: 10000,
  rmsNormEps: 1e-5,
  maxPositionEmbeddings: 1200,
  tieWordEmbeddings: false,
}
// Weights with which the sequences below do not soon repeat a few tokens for ever.
manualSeed(14)
const model = LlamaForCausalLM.dummy(config, { dtype: 'float32' })

/** What a device does with a captured step, on the CPU: replaying runs it again and writes the results where the first ones lie. */
function recorder() {
  const steps: { replays: number; disposed: boolean; pool: CapturedStep<unknown> | undefined }[] = []
  const capture: Capture = (fn, pool) => {
    const result = fn()
    // A step runs inside a scope, which would take its results away.
    const tensors = Object.values(result as object).filter((value) => value instanceof Tensor)
    for (const tensor of tensors) keep(tensor)
    const step = { replays: 0, disposed: false, pool }
    steps.push(step)
    return {
      result,
      replay: () => {
        step.replays++
        scope(() => {
          const again = Object.values(fn() as object)
          for (const [i, tensor] of tensors.entries()) tensor.copy_(again[i])
        })
      },
      dispose: () => {
        step.disposed = true
        for (const tensor of tensors) tensor.dispose()
      },
    }
  }
  return { steps, capture }
}

async function generate(
  prompts: readonly number[][],
  params: SamplingParams,
  options: { capture?: Capture | undefined; maxNumSeqs?: number } = {},
): Promise<number[][]> {
  const engine = new Engine(model, {
    numBlocks: 200,
    maxNumBatchedTokens: 256,
    maxNumSeqs: 8,
    maxModelLen: 1200,
    capture: undefined,
    ...options,
  })
  const run = async (prompt: number[]) => {
    const sequence = new Sequence(prompt, {
      params: resolveSamplingParams({ ignoreEos: true, ...params }, config.vocabSize),
      endOfGenerationIds: [],
      maxModelLen: 1200,
      detokenizer: new Detokenizer((id) => Uint8Array.of(id)),
    })
    const ids: number[] = []
    for await (const { tokenId } of engine.run(sequence)) ids.push(tokenId)
    return ids
  }
  try {
    return await Promise.all(prompts.map(run))
  } finally {
    engine.dispose(new Error('done'))
  }
}

const prompt = (length: number, seed: number) => Array.from({ length }, (_, i) => (i * i * seed + i) % 100)

describe('a captured step', () => {
  it('gives what the step itself gives, whatever it is padded to', async () => {
    const { steps, capture } = recorder()
    const prompts = [prompt(3, 1), prompt(20, 3), prompt(40, 7)]
    const plain = await generate(prompts, { maxTokens: 30 })
    expect(new Set(plain.flat()).size).toBeGreaterThan(10)
    expect(await generate(prompts, { maxTokens: 30 }, { capture })).toEqual(plain)
    // Three sequences in four rows: the first step runs as it is, the second is captured.
    expect(steps).toHaveLength(1)
    expect(steps[0]!.replays).toBeGreaterThan(20)
    expect(steps[0]!.disposed).toBe(true)
  })

  it('is one for each size and length, and all of them share memory', async () => {
    const { steps, capture } = recorder()
    const prompts = [prompt(500, 3), prompt(4, 1)]
    const plain = await generate(prompts, { maxTokens: 40 })
    expect(await generate(prompts, { maxTokens: 40 }, { capture })).toEqual(plain)
    // The longer sequence grows past 512 tokens.
    expect(steps).toHaveLength(2)
    expect(steps[0]!.pool).toBeUndefined()
    expect(steps[1]!.pool).toBeDefined()
  })

  it('leaves the logits for sampling by chance, and for log-probabilities', async () => {
    const { steps, capture } = recorder()
    const params = { maxTokens: 20, temperature: 1, seed: 3, logprobs: 2 }
    const plain = await generate([prompt(5, 1)], params)
    expect(await generate([prompt(5, 1)], params, { capture })).toEqual(plain)
    expect(steps[0]!.replays).toBeGreaterThan(10)
  })

  it('gives way to its modules while a profile is recorded', async () => {
    const { steps, capture } = recorder()
    const { record } = await profile(() => generate([prompt(5, 1)], { maxTokens: 6 }, { capture }))
    expect(steps).toHaveLength(0)
    const names = record.phases.flatMap(({ rows }) => rows.map(({ name }) => name))
    expect(names).toEqual(expect.arrayContaining(['vllm_ops::silu_and_mul', 'LlamaMLP']))
  })
})

it('steps are padded to few sizes and lengths', () => {
  expect([1, 2, 3, 4, 5, 8, 9, 63].map((count) => paddedSize(count, 64))).toEqual([1, 2, 4, 4, 8, 8, 16, 64])
  expect(paddedSize(5, 6)).toBe(6)
  expect([1, 512, 513, 1100].map((length) => paddedLength(length, 1200))).toEqual([512, 512, 1024, 1200])
})
