// SPDX-License-Identifier: Apache-2.0
//
// Whole models on the meta device, by what the package exports. Without a backend: nothing here needs a kernel.
import { ArgumentError, scope } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { describe, expect, it } from 'vitest'
import { createKvCache, fakeBatch, LLAMA_3_8B, LlamaForCausalLM, SMOLLM2_135M } from '../src'

const device = 'meta'

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
      for (const dtype of ['bfloat16', 'float32'] as const)
        scope(() => {
          const model = LlamaForCausalLM.dummy(config, { device, dtype })
          const caches = createKvCache(config, 1024, dtype, device)
          const { inputIds, positions, metadata, logitsIndices } = fakeBatch(shape)
          const logits = model.call(inputIds, positions, caches, metadata, logitsIndices)
          expect(logits).toMatchObject({ shape: [rows, config.vocabSize], dtype: 'float32', device })
          model.dispose()
        })
  })

  it('takes no memory, and leaves nothing behind', () => {
    const [tensors, bytes] = [native().liveTensors(), process.memoryUsage.rss()]
    scope(() => {
      const model = LlamaForCausalLM.dummy(LLAMA_3_8B, { device })
      const caches = createKvCache(LLAMA_3_8B, 100_000, 'bfloat16', device)
      const { inputIds, positions, metadata } = fakeBatch({ prefills: [{ length: 8000 }] })
      model.call(inputIds, positions, caches, metadata)
      for (const { key, value } of caches) for (const tensor of [key, value]) tensor.dispose()
      model.dispose()
    })
    expect(native().liveTensors()).toBe(tensors)
    expect(process.memoryUsage.rss() - bytes).toBeLessThan(500e6)
  })

  it.each([
    ['a cache of another dtype', { cacheDType: 'float16' }, 'vllm_ops::reshape_and_cache'],
    ['a cache of other heads', { cache: { ...SMOLLM2_135M, headDim: 32 } }, 'vllm_ops::reshape_and_cache'],
    [
      'heads that are not as wide as they rotate',
      { config: { ...SMOLLM2_135M, rotaryDim: 128 } },
      'vllm_ops::rotary_embedding',
    ],
  ] as const)('refuses %s, by the op that does', (_, wrong, op) => {
    const {
      config = SMOLLM2_135M,
      cache = config,
      cacheDType = 'bfloat16',
    } = wrong as {
      config?: typeof SMOLLM2_135M
      cache?: typeof SMOLLM2_135M
      cacheDType?: 'float16'
    }
    scope(() => {
      const model = LlamaForCausalLM.dummy(config, { device, maxModelLen: 64 })
      const caches = createKvCache(cache, 4, cacheDType, device)
      const { inputIds, positions, metadata } = fakeBatch({ prefills: [{ length: 9 }] })
      let thrown: unknown
      try {
        model.call(inputIds, positions, caches, metadata)
      } catch (error) {
        thrown = error
      }
      expect(thrown).toBeInstanceOf(ArgumentError)
      expect(thrown).toMatchObject({ op })
      model.dispose()
    })
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
