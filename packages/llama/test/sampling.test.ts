// SPDX-License-Identifier: Apache-2.0
import { ArgumentError } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { Random, randomSeed } from '../src/sampling/random'
import { logprobsOf, sampleToken } from '../src/sampling/sample'
import { resolveSamplingParams, type SamplingParams } from '../src/sampling/sampling-params'
import { topIndices } from '../src/sampling/select'

describe('the random numbers', () => {
  it('are those of xoshiro128**', () => {
    // From the state (1, 2, 3, 4), as the authors' C code prints them.
    const random = new Random(Uint32Array.of(1, 2, 3, 4))
    const known = [
      11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
    ]
    expect(known.map(() => random.next())).toEqual(known)
  })

  it('follow from the seed, all of it', () => {
    const first = (seed: number) => new Random(seed).next()
    expect(first(7)).toBe(first(7))
    const seeds = [0, 1, 2, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 52, Number.MAX_SAFE_INTEGER]
    expect(new Set(seeds.map((seed) => [first(seed), new Random(seed).uniform()].join())).size).toBe(
      seeds.length,
    )
  })

  it('stay the same from release to release', () => {
    const random = new Random(2024)
    expect([random.next(), random.next(), random.uniform()]).toEqual([
      3175303598, 2747629785, 0.6024548279700446,
    ])
  })

  it('are uniform from 0 to below 1', () => {
    const random = new Random(1)
    const counts = new Array<number>(20).fill(0)
    for (let i = 0; i < 20000; i++) counts[Math.floor(random.uniform() * 20)]!++
    // Chi-squared with 19 degrees of freedom: 43.8 is exceeded once in 1000 seeds, and this one is fixed.
    expect(counts.reduce((sum, n) => sum + (n - 1000) ** 2 / 1000, 0)).toBeLessThan(43.8)
  })

  it('have seeds of 53 bits', () => {
    const seeds = Array.from({ length: 50 }, randomSeed)
    expect(seeds.every(Number.isSafeInteger)).toBe(true)
    expect(new Set(seeds).size).toBe(50)
    expect(Math.max(...seeds)).toBeGreaterThan(2 ** 50)
  })
})

describe('topIndices', () => {
  it('equals a sort, ties by index', () => {
    const random = new Random(3)
    for (let round = 0; round < 300; round++) {
      const length = 1 + (random.next() % 40)
      // Few distinct values, so that there are ties at every cut.
      const values = Float32Array.from({ length }, () => (random.next() % 7) - 3)
      const k = 1 + (random.next() % length)
      const sorted = Array.from(values.keys()).sort((a, b) => values[b]! - values[a]! || a - b)
      expect(topIndices(values, k)).toEqual(sorted.slice(0, k))
    }
  })

  it('takes sorted, reversed, equal and infinite values', () => {
    const rising = Float32Array.from({ length: 5000 }, (_, i) => i)
    expect(topIndices(rising, 3)).toEqual([4999, 4998, 4997])
    expect(topIndices(rising.toReversed(), 3)).toEqual([0, 1, 2])
    expect(topIndices(new Float32Array(5000), 3)).toEqual([0, 1, 2])
    const { POSITIVE_INFINITY, NEGATIVE_INFINITY, NaN: nan } = Number
    expect(topIndices(Float32Array.of(NEGATIVE_INFINITY, 1, POSITIVE_INFINITY, 0), 4)).toEqual([2, 1, 3, 0])
    expect(topIndices(Float32Array.of(nan, 1, nan, 2), 2)).toEqual([3, 1])
  })
})

describe('sampleToken', () => {
  const logits = Float32Array.from([0.1, 0.4, 0.2, 0.05, 0.25], Math.log)
  const all = { temperature: 1, topK: 0, topP: 1 }
  const draw = (distribution: typeof all, u: number, from = logits) => sampleToken(from, distribution, u)
  /** How often each token comes for evenly spread u. */
  const shares = (distribution: typeof all, from = logits) => {
    const counts = new Array<number>(from.length).fill(0)
    for (let i = 0; i < 10000; i++) counts[draw(distribution, (i + 0.5) / 10000, from)]!++
    return counts.map((n) => n / 10000)
  }
  const close = (actual: number[], expected: number[]) => {
    for (const [i, share] of expected.entries()) expect(actual[i], `token ${i}`).toBeCloseTo(share, 3)
  }

  it('draws each token as often as its probability', () => {
    close(shares(all), [0.1, 0.4, 0.2, 0.05, 0.25])
  })

  it('sharpens and flattens with the temperature', () => {
    const squared = [0.01, 0.16, 0.04, 0.0025, 0.0625]
    close(
      shares({ ...all, temperature: 0.5 }),
      squared.map((p) => p / 0.275),
    )
    close(shares({ ...all, temperature: 1e-6 }), [0, 1, 0, 0, 0])
    close(shares({ ...all, temperature: 1e6 }), [0.2, 0.2, 0.2, 0.2, 0.2])
  })

  it('keeps the top k', () => {
    close(shares({ ...all, topK: 2 }), [0, 0.4 / 0.65, 0, 0, 0.25 / 0.65])
    close(shares({ ...all, topK: 1 }), [0, 1, 0, 0, 0])
    close(shares({ ...all, topK: 5 }), [0.1, 0.4, 0.2, 0.05, 0.25])
    close(shares({ ...all, topK: 99 }), [0.1, 0.4, 0.2, 0.05, 0.25])
  })

  it('keeps the fewest that reach p, the one that crosses it included', () => {
    close(shares({ ...all, topP: 0.64 }), [0, 0.4 / 0.65, 0, 0, 0.25 / 0.65])
    close(shares({ ...all, topP: 0.66 }), [0, 0.4 / 0.85, 0.2 / 0.85, 0, 0.25 / 0.85])
    close(shares({ ...all, topP: 1e-9 }), [0, 1, 0, 0, 0])
    close(shares({ ...all, topP: 0.999 }), [0.1, 0.4, 0.2, 0.05, 0.25])
  })

  it('applies p to what k left', () => {
    // Of {0.4, 0.25, 0.2} the first two hold 0.65 / 0.85 = 0.765.
    close(shares({ temperature: 1, topK: 3, topP: 0.76 }), [0, 0.4 / 0.65, 0, 0, 0.25 / 0.65])
    close(shares({ temperature: 1, topK: 3, topP: 0.77 }), [0, 0.4 / 0.85, 0.2 / 0.85, 0, 0.25 / 0.85])
  })

  it('has the nucleus of a full sort, on many tokens', () => {
    const random = new Random(5)
    const many = Float32Array.from({ length: 3000 }, () => 6 * (random.uniform() - 0.5))
    for (const topP of [0.05, 0.5, 0.9, 0.99]) {
      const weights = many.map(Math.exp)
      const order = Array.from(many.keys()).sort((a, b) => many[b]! - many[a]!)
      const total = weights.reduce((a, b) => a + b, 0)
      let mass = 0
      const last = order.find((i) => {
        mass += weights[i]!
        return mass >= topP * total
      })
      // The last u draws the last token of the nucleus.
      expect(draw({ ...all, topP }, 1 - 2 ** -53, many)).toBe(last)
    }
  })

  it('is right at the ends of u', () => {
    expect(draw(all, 0)).toBe(0)
    expect(draw(all, 1 - 2 ** -53)).toBe(4)
    const withGaps = Float32Array.of(Number.NEGATIVE_INFINITY, 0, Number.NEGATIVE_INFINITY, Number.NaN)
    expect(draw(all, 0, withGaps)).toBe(1)
    expect(draw(all, 1 - 2 ** -53, withGaps)).toBe(1)
  })

  it('refuses logits that are no numbers', () => {
    expect(() => draw(all, 0.5, new Float32Array(4).fill(Number.NaN))).toThrow(/no finite logits/)
  })
})

describe('logprobsOf', () => {
  it('gives log-probabilities of the untouched distribution', () => {
    const logits = Float32Array.from([0.1, 0.4, 0.2, 0.05, 0.25], (p) => Math.log(p) + 90)
    const { logprob, top } = logprobsOf(logits, 3, 2)
    // The logits are float32 of around 90: 4e-6 each.
    expect(logprob).toBeCloseTo(Math.log(0.05), 4)
    expect(top.map(({ tokenId }) => tokenId)).toEqual([1, 4])
    expect(top[1]!.logprob).toBeCloseTo(Math.log(0.25), 4)
    expect(logprobsOf(logits, 0, 0).top).toEqual([])
  })
})

describe('sampling parameters', () => {
  it('have defaults', () => {
    expect(resolveSamplingParams({}, 100)).toEqual({
      maxTokens: Number.MAX_SAFE_INTEGER,
      temperature: 0,
      topK: 0,
      topP: 1,
      seed: undefined,
      stop: [],
      stopTokenIds: [],
      ignoreEos: false,
      logprobs: undefined,
      promptLogprobs: undefined,
    })
    expect(resolveSamplingParams({ stop: 'x' }, 100).stop).toEqual(['x'])
  })

  it.each<[keyof SamplingParams, SamplingParams]>([
    ['maxTokens', { maxTokens: 0 }],
    ['maxTokens', { maxTokens: 1.5 }],
    ['temperature', { temperature: -1 }],
    ['temperature', { temperature: Number.NaN }],
    ['temperature', { temperature: Number.POSITIVE_INFINITY }],
    ['topK', { topK: -1 }],
    ['topP', { topP: 0 }],
    ['topP', { topP: 1.1 }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 2 ** 53 }],
    ['stop', { stop: '' }],
    ['stop', { stop: ['a', ''] }],
    ['stopTokenIds', { stopTokenIds: [100] }],
    ['logprobs', { logprobs: 101 }],
    ['promptLogprobs', { promptLogprobs: -1 }],
  ])('refuse a wrong %s: %o', (argument, params) => {
    expect(() => resolveSamplingParams(params, 100)).toThrow(ArgumentError)
    expect(() => resolveSamplingParams(params, 100)).toThrow(expect.objectContaining({ argument }))
  })
})
