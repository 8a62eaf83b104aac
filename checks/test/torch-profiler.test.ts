// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { compare, type SeenOps } from '../src/torch-profiler'

const rounds = (...medians: number[]): SeenOps[] =>
  medians.map((medianUs) => ({ torch: '2.13.0', ops: { '["aten::mm",[[2,2]]]': { calls: 3, medianUs } } }))

describe('the comparison with torch.profiler', () => {
  it('takes times for equal that differ by no more than the rounds of a side and the tolerance', () => {
    const report = compare(rounds(100, 110, 100), rounds(118, 119, 120), 10)
    expect(report).toMatchObject({ passed: true, failures: [], figures: { ops: 1, judged: 1 } })
    expect(report.figures.medianRatio).toBeCloseTo(100 / 119)
  })

  it('names what takes another time', () => {
    expect(compare(rounds(100, 101), rounds(140, 141), 10).failures).toEqual([
      '["aten::mm",[[2,2]]]: 101.0 µs here, 141.0 µs in Python; the rounds of a side differ by 1 %',
    ])
  })

  it('does not judge what takes a few microseconds', () => {
    expect(compare(rounds(1, 1), rounds(4, 4), 10)).toMatchObject({ passed: true, figures: { judged: 0 } })
  })

  it('names what is called more often, and another torch', () => {
    const more = { torch: '2.14.0', ops: { '["aten::mm",[[2,2]]]': { calls: 4, medianUs: 1 } } }
    expect(compare(rounds(1), [more], 10).failures).toEqual([
      'torch 2.13.0 here, 2.14.0 in Python',
      '["aten::mm",[[2,2]]]: 3 calls here, 4 in Python',
    ])
  })
})
