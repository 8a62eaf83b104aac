// SPDX-License-Identifier: Apache-2.0
//
// Without a backend: nothing here needs a kernel.
import { ArgumentError } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { expect, it } from 'vitest'
import { estimateMemory, LLAMA_3_8B, SMOLLM2_135M } from '../src'

it('tells what Llama 3 8B takes, without taking it', () => {
  const before = process.memoryUsage.rss()
  const estimate = estimateMemory(LLAMA_3_8B, { kvCacheTokens: 65536, maxNumBatchedTokens: 2048 })
  // The published number of weights, and the table of rotary embeddings.
  expect(estimate.weights).toBe((8_030_261_248 + 8192 * 128) * 2)
  // Keys and values of 8 heads of 128 in 32 layers: 128 KiB a token.
  expect(estimate.kvCache).toBe(65536 * 131072)
  // hidden, residual, attended of 4096; query, key and value; gate and up; their product. 64 rows of logits in float32.
  expect(estimate.activations).toBe(2048 * 2 * (3 * 4096 + 6144 + 3 * 14336) + 64 * 128256 * 4)
  expect(estimate.total).toBe(estimate.weights + estimate.kvCache + estimate.activations)
  expect(process.memoryUsage.rss() - before).toBeLessThan(500e6)
})

it('counts what attention puts together, for the sequences that generate alone', () => {
  // 256 parts of 512 tokens: two numbers a part and head, and a partial result of 128.
  const scratch = 32 * 256 * (2 * 4 + 128 * 2)
  const options = { maxModelLen: 131072, maxNumBatchedTokens: 2048, kvCacheTokens: 131072 }
  const long = { ...LLAMA_3_8B, maxPositionEmbeddings: 131072 }
  const [one, ten] = [1, 10].map((maxNumSeqs) => estimateMemory(long, { ...options, maxNumSeqs }).activations)
  expect(one).toBe(2048 * 2 * (3 * 4096 + 6144 + 3 * 14336) + 128256 * 4)
  expect(ten! - one!).toBe(9 * (scratch + 128256 * 4))
})

it('counts a tied output head once, and float32 twice', () => {
  const half = estimateMemory(SMOLLM2_135M)
  const full = estimateMemory(SMOLLM2_135M, { dtype: 'float32' })
  expect(half.weights).toBe((134_515_008 + 8192 * 64) * 2)
  expect([full.weights, full.kvCache]).toEqual([2 * half.weights, 2 * half.kvCache])
})

it('refuses a shape that does not fit together', () => {
  expect(() => estimateMemory({ ...SMOLLM2_135M, rotaryDim: 128 })).toThrow(ArgumentError)
})

it('leaves nothing behind', () => {
  estimateMemory(SMOLLM2_135M)
  const before = native().liveTensors()
  estimateMemory(SMOLLM2_135M)
  expect(native().liveTensors()).toBe(before)
})
