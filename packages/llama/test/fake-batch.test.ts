// SPDX-License-Identifier: Apache-2.0
//
// Whole models on the meta device, by what the package exports. Without a backend: nothing here needs a kernel.
import { scope, type Tensor } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { describe, expect, it } from 'vitest'
import {
  type BatchShape,
  createKvCache,
  fakeBatch,
  LLAMA_3_8B,
  type LlamaConfig,
  LlamaForCausalLM,
  type ModelDType,
  SMOLLM2_135M,
} from '../src'

const device = 'meta'

/** Runs one batch through a model on the meta device, and frees everything but the logits. */
function run(
  shape: BatchShape,
  config: LlamaConfig,
  { dtype = 'bfloat16', cache = config, cacheDType = dtype, blocks = 1024 }: Partial<Run> = {},
): Tensor {
  const model = LlamaForCausalLM.dummy(config, { device, dtype })
  const caches = createKvCache(cache, blocks, cacheDType, device)
  try {
    return scope(() => {
      const { inputIds, positions, metadata, logitsIndices } = fakeBatch(shape)
      return model.call(inputIds, positions, caches, metadata, logitsIndices)
    })
  } finally {
    for (const { key, value } of caches) for (const tensor of [key, value]) tensor.dispose()
    model.dispose()
  }
}

interface Run {
  readonly dtype: ModelDType
  readonly cache: LlamaConfig
  readonly cacheDType: ModelDType
  readonly blocks: number
}

describe('a model without weights', () => {
  it.each([
    ['a prompt', { prefills: [{ length: 700 }] }, 1],
    ['a prompt that goes on', { prefills: [{ length: 300, contextLength: 700 }] }, 1],
    ['a generating sequence', { decodes: [1001] }, 1],
    ['long sequences', { decodes: [8192, 3] }, 2],
    [
      'prompts among generating sequences',
      { prefills: [{ length: 5 }, { length: 7, contextLength: 20 }], decodes: [9, 2000] },
      4,
    ],
  ])('computes %s', (_, shape, rows) => {
    for (const config of [LLAMA_3_8B, SMOLLM2_135M])
      for (const dtype of ['bfloat16', 'float32'] as const) {
        using logits = run(shape, config, { dtype })
        expect(logits).toMatchObject({ shape: [rows, config.vocabSize], dtype: 'float32', device })
      }
  })

  it('takes no memory, and leaves nothing behind', () => {
    const [tensors, bytes] = [native().liveTensors(), process.memoryUsage.rss()]
    run({ prefills: [{ length: 8000 }] }, LLAMA_3_8B, { blocks: 100_000 }).dispose()
    expect(native().liveTensors()).toBe(tensors)
    expect(process.memoryUsage.rss() - bytes).toBeLessThan(500e6)
  })

  it.each<[string, Partial<Run> & { config?: LlamaConfig }, string]>([
    ['a cache of another dtype', { cacheDType: 'float16' }, 'vllm_ops::reshape_and_cache'],
    ['a cache of other heads', { cache: { ...SMOLLM2_135M, headDim: 32 } }, 'vllm_ops::reshape_and_cache'],
    [
      'heads that are not as wide as they rotate',
      { config: { ...SMOLLM2_135M, rotaryDim: 128 } },
      'vllm_ops::rotary_embedding',
    ],
  ])('refuses %s, by the op that does', (_, { config = SMOLLM2_135M, ...wrong }, op) => {
    const prompt = { prefills: [{ length: 9 }] }
    expect(() => run(prompt, config, wrong)).toThrow(expect.objectContaining({ code: 'E_ARGUMENT', op }))
  })
})

it.each([
  [{}, 'prefills'],
  [{ prefills: [{ length: 0 }] }, 'prefills'],
  [{ prefills: [{ length: 3, contextLength: -1 }] }, 'prefills'],
  [{ decodes: [2.5] }, 'decodes'],
])('a batch of %j is refused', (shape, argument) => {
  expect(() => fakeBatch(shape)).toThrow(expect.objectContaining({ argument }))
})
