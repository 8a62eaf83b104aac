// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { diffProfiles, formatDiff } from '../src/profiler/diff'
import type { ProfileRecord } from '../src/profiler/record'
import { buildPhases } from '../src/profiler/tree'
import { event, uniform } from './profiler-events'
import { recordOf } from './profiler-records'

const FREE = { inside: 0, outside: 0 }

/** A hundred steps of three ops, each with the noise of a busy machine; `scale` is how much longer the second one takes. */
function run(seed: number, scale = 1, phase = 'decode'): ProfileRecord {
  const random = uniform(seed)
  const events = []
  let now = 0
  for (let step = 0; step < 100; step++) {
    const start = now
    for (const [name, ns] of [
      ['aten::mm', 50_000],
      ['aten::add', 20_000 * scale],
      ['aten::tiny', 100 * scale],
    ] as const) {
      // Up to a tenth longer, and one in twenty three times as long.
      const took = ns * (1 + 0.1 * random()) * (random() < 0.05 ? 3 : 1)
      events.push(event('op', name, now, now + took))
      now += took + 500
    }
    events.push(event('scope', `phase: ${phase}`, start, now))
  }
  const root = { label: 'root', name: 'run' }
  return recordOf(...buildPhases({ events, root, idle: new Map(), cost: { scope: FREE, op: FREE } }))
}

describe('diffProfiles', () => {
  it.each(Array.from({ length: 30 }, (_, seed) => seed))(
    'finds nothing in the same program run twice (%i)',
    (seed) => {
      const diff = diffProfiles(run(seed), run(seed + 1000))
      expect(diff.rows.filter(({ significant }) => significant)).toEqual([])
      expect(diff.slower).toBe(false)
    },
  )

  it('finds the op that became slower, and it alone', () => {
    const diff = diffProfiles(run(1), run(2, 1.5))
    const significant = diff.rows.filter(({ significant }) => significant)
    expect(significant.map(({ name }) => name)).toEqual(['aten::add'])
    // 50 % more, within what the noise of both runs is.
    expect(significant[0]!.percent).toBeGreaterThan(30)
    expect(significant[0]!.percent).toBeLessThan(70)
    expect(diff.slower).toBe(true)
    expect(formatDiff(diff)).toMatch(/\ndecode +aten::add +1 .*\n1 of \d+ rows differ significantly\n$/)
  })

  it('tells quicker from slower', () => {
    const diff = diffProfiles(run(1, 1.5), run(2))
    expect(diff.rows.filter(({ significant }) => significant)).toHaveLength(1)
    expect(diff.slower).toBe(false)
  })

  it('leaves out what the threshold allows, and what is a small part', () => {
    const at = (threshold: number, minShare?: number) =>
      diffProfiles(run(1), run(2, 1.5), { threshold, minShare }).rows.filter(({ significant }) => significant)
    expect(at(80)).toEqual([])
    expect(at(10, 50)).toEqual([])
  })

  it('compares one run of a phase, however often it ran', () => {
    const twice = run(1)
    const [phase] = twice.phases
    for (const row of phase!.rows) {
      row.calls *= 2
      row.self_cpu_us *= 2
      row.total_cpu_us *= 2
    }
    phase!.steps *= 2
    phase!.total_cpu_us *= 2
    expect(diffProfiles(run(1), twice).rows.filter(({ percent }) => Math.abs(percent) > 1e-6)).toEqual([])
  })

  it('says which phases only one record has, and refuses records without any in common', () => {
    const both = run(1)
    both.phases.push({ ...both.phases[0]!, name: 'prefill' })
    expect(diffProfiles(both, run(2)).missing).toEqual(['prefill'])
    expect(() => diffProfiles(run(1), run(2, 1, 'prefill'))).toThrow(
      expect.objectContaining({ code: 'E_PROFILER' }),
    )
  })
})
