// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import type { FloatDType, Tolerance } from '../src/index'
import { type Criterion, compare, ulp } from '../src/testing/compare'
import { SeededRandom } from '../src/testing/random'

const oneUlp: Tolerance = { ulps: 1, absolute: 0, reason: 'for these tests' }

function judge(received: number, exact: number, dtype: FloatDType, criterion: Criterion = oneUlp) {
  return compare(Float64Array.of(received), Float64Array.of(exact), [1], dtype, criterion)
}

describe('ulp', () => {
  it.each([
    [1, 'float32', 2 ** -23],
    [1.9, 'float32', 2 ** -23],
    [-2, 'float32', 2 ** -22],
    [0, 'float32', 2 ** -149],
    [2 ** -140, 'float32', 2 ** -149],
    [1e300, 'float32', 2 ** 104],
    [1, 'float16', 2 ** -10],
    [0, 'float16', 2 ** -24],
    [1e6, 'float16', 32],
    [1, 'bfloat16', 2 ** -7],
    [0, 'bfloat16', 2 ** -133],
  ] as const)('at %d in %s', (value, dtype, expected) => {
    expect(ulp(value, dtype)).toBe(expected)
  })
})

describe('compare', () => {
  it('takes both neighbours of an exact value, and no other number', () => {
    const exact = 1 + 2 ** -9
    expect(judge(1, exact, 'bfloat16')).toBeUndefined()
    expect(judge(1 + 2 ** -7, exact, 'bfloat16')).toBeUndefined()
    expect(judge(1 - 2 ** -7, exact, 'bfloat16')).toMatch(
      /expected 1 from 1.001953125, received 0.9921875 \(1.25 ulp/,
    )
    expect(judge(1 + 2 ** -6, exact, 'bfloat16')).toMatch(/allowed: 1 ulp; 1 of 1 elements are wrong/)
  })

  it('adds the absolute term', () => {
    const tolerance = { ...oneUlp, absolute: 0.5 }
    expect(judge(0.5, 0, 'float32', tolerance)).toBeUndefined()
    expect(judge(0.51, 0, 'float32', tolerance)).toMatch(/allowed: 1 ulp \+ 0.5/)
  })

  it('takes infinity where the exact value rounds to it, of the same sign', () => {
    expect(judge(Number.POSITIVE_INFINITY, 65520, 'float16')).toBeUndefined()
    expect(judge(65504, 65520, 'float16')).toBeUndefined()
    expect(judge(Number.POSITIVE_INFINITY, 65000, 'float16')).toMatch(/received Infinity/)
    expect(judge(Number.NEGATIVE_INFINITY, 1e9, 'float16')).toMatch(/received -Infinity/)
    expect(judge(65504, 1e9, 'float16')).toMatch(/expected Infinity from 1000000000, received 65504/)
    expect(judge(3.4e38, Number.POSITIVE_INFINITY, 'float32')).toMatch(/expected Infinity/)
  })

  it('takes NaN for NaN only', () => {
    expect(judge(Number.NaN, Number.NaN, 'float32')).toBeUndefined()
    expect(judge(Number.NaN, 1, 'float32')).toMatch(/received NaN/)
    expect(judge(1, Number.NaN, 'float32')).toMatch(/expected NaN/)
    expect(judge(Number.NaN, Number.POSITIVE_INFINITY, 'float32')).toMatch(/received NaN/)
  })

  it('takes the nearest number only where that is asked for', () => {
    expect(judge(0.1, 0.1, 'float32', 'nearest')).toBeUndefined()
    expect(judge(Math.fround(0.1), 0.1, 'float32', 'nearest')).toBeUndefined()
    expect(judge(Math.fround(0.1) - 2 ** -27, 0.1, 'float32', 'nearest')).toMatch(
      /allowed: the nearest number/,
    )
    // What the dtype holds must come back as it is, the sign of zero too.
    expect(judge(1 - 2 ** -24, 1, 'float32', 'nearest')).toMatch(/received/)
    expect(judge(0, -0, 'float32', 'nearest')).toMatch(/received 0/)
    expect(judge(-0, -0, 'float32', 'nearest')).toBeUndefined()
  })

  it('names the worst element by its place', () => {
    const exact = new Float64Array(6)
    const received = Float64Array.of(0, 1, 0, 0, -3, 0)
    expect(compare(received, exact, [2, 3], 'float32', oneUlp)).toMatch(
      /^\[1, 1\]: .* 2 of 6 elements are wrong$/,
    )
  })
})

describe('SeededRandom', () => {
  it('draws the same numbers from the same seed, on every machine', () => {
    // From the same definition in Python.
    const random = new SeededRandom('rms_norm')
    expect([random.bits(), random.bits(), random.bits()]).toEqual([3479290180, 812052610, 2275733940])
    expect(new SeededRandom('rms_norm ').bits()).not.toBe(new SeededRandom('rms_norm').bits())
  })

  it('draws what it says', () => {
    const random = new SeededRandom('statistics')
    const count = 100_000
    const normals = Array.from({ length: count }, () => random.normal())
    const mean = normals.reduce((sum, value) => sum + value, 0) / count
    const variance = normals.reduce((sum, value) => sum + (value - mean) ** 2, 0) / count
    // Five standard deviations of the mean and of the variance of this many draws.
    expect(Math.abs(mean)).toBeLessThan(5 / Math.sqrt(count))
    expect(Math.abs(variance - 1)).toBeLessThan(5 * Math.sqrt(2 / count))
    const counts = [0, 0, 0, 0]
    for (let i = 0; i < count; i++) counts[random.integer(-1, 3) + 1]!++
    for (const found of counts)
      expect(Math.abs(found - count / 4)).toBeLessThan(5 * Math.sqrt((count * 3) / 16))
    expect(counts.reduce((sum, found) => sum + found, 0)).toBe(count)
  })
})
