// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { recordingCost } from '../src/profiler/calibration'
import { type ScopeInfo, scopeLabel, torchDtype } from '../src/profiler/labels'
import type { RawEvent } from '../src/profiler/raw-event'
import type { ProfilePhase, ProfileRow } from '../src/profiler/record'
import { buildPhases, type TreeInput } from '../src/profiler/tree'
import { event, uniform } from './profiler-events'

const ROOT = { label: 'root', name: 'run' }
const FREE = { inside: 0, outside: 0 }
const UNRECORDED = { scope: FREE, op: FREE }

function build(events: RawEvent[], more: Partial<TreeInput> = {}): ProfilePhase[] {
  return buildPhases({
    events,
    root: ROOT,
    idle: new Map(),
    cost: UNRECORDED,
    ...more,
  })
}

function row(phase: ProfilePhase | undefined, name: string, path?: string): ProfileRow {
  const found =
    phase?.rows.filter((row) => row.name === name && (path === undefined || row.path === path)) ?? []
  expect(found, `rows named ${name}`).toHaveLength(1)
  return found[0]!
}

function sum(phase: ProfilePhase, field: 'self_cpu_us' | 'self_device_us'): number {
  return phase.rows.reduce((total, row) => total + row[field], 0)
}

const RMS_NORM: ScopeInfo = { kind: 'module', class: 'RMSNorm', path: 'model.norm', weight: 'bfloat16[8]' }
const MODEL: ScopeInfo = { kind: 'module', class: 'LlamaModel', path: 'model' }

describe('buildPhases', () => {
  it('nests ops in modules and takes what is inside out of self times', () => {
    const [phase] = build([
      event('scope', ROOT.label, 0, 100_000),
      event('scope', scopeLabel(MODEL), 10_000, 90_000),
      event('scope', scopeLabel(RMS_NORM), 20_000, 60_000),
      event('op', 'aten::mul', 30_000, 50_000, { dtypes: ['c10::BFloat16', ''], shapes: [[4, 8], []] }),
      event('op', 'aten::empty', 35_000, 40_000),
    ])
    expect(
      phase!.rows.map(({ name, parent, total_cpu_us, self_cpu_us }) => [
        name,
        parent,
        total_cpu_us,
        self_cpu_us,
      ]),
    ).toEqual([
      ['LlamaModel', null, 80, 40],
      ['RMSNorm', 0, 40, 20],
      ['aten::mul', 1, 20, 15],
      ['aten::empty', 2, 5, 5],
      ['(outside modules)', null, 20, 20],
      ['(idle)', null, 0, 0],
      ['(profiler)', null, 0, 0],
    ])
    expect(phase!.total_cpu_us).toBe(100)
    const norm = row(phase, 'RMSNorm')
    expect(norm).toMatchObject({ kind: 'module', path: 'model.norm', weight: 'bfloat16[8]', calls: 1 })
    const mul = row(phase, 'aten::mul')
    expect(mul).toMatchObject({ path: 'model.norm', dtypes: ['bfloat16', ''], shapes: [[4, 8], []] })
  })

  it('merges equal siblings and keeps those apart that differ in type, shape or path', () => {
    const bf16 = { dtypes: ['c10::BFloat16'], shapes: [[4]] }
    const [phase] = build([
      event('scope', ROOT.label, 0, 1000),
      event('op', 'aten::add', 0, 10, bf16),
      event('op', 'aten::add', 20, 50, bf16),
      event('op', 'aten::add', 60, 70, { dtypes: ['float'], shapes: [[4]] }),
      event('op', 'aten::add', 80, 90, { dtypes: ['c10::BFloat16'], shapes: [[5]] }),
    ])
    const adds = phase!.rows.filter(({ name }) => name === 'aten::add')
    expect(adds.map(({ calls, total_cpu_us }) => [calls, total_cpu_us])).toEqual([
      [2, 0.04],
      [1, 0.01],
      [1, 0.01],
    ])
  })

  it('makes phases of the marked parts, adds up those of one name and leaves the rest out', () => {
    const prefill: ScopeInfo = { kind: 'phase', name: 'prefill' }
    const decode: ScopeInfo = { kind: 'phase', name: 'decode' }
    const phases = build([
      event('scope', ROOT.label, 0, 1_000_000),
      event('op', 'aten::warm_up', 1_000, 100_000),
      event('scope', scopeLabel(prefill), 100_000, 300_000),
      event('op', 'aten::mm', 150_000, 250_000),
      event('scope', scopeLabel(decode), 300_000, 310_000),
      event('op', 'aten::mv', 302_000, 304_000),
      event('scope', scopeLabel(decode), 320_000, 330_000),
      event('op', 'aten::mv', 322_000, 325_000),
      event('scope', scopeLabel(prefill), 326_000, 327_000),
    ])
    expect(phases.map(({ name, total_cpu_us }) => [name, total_cpu_us])).toEqual([
      ['prefill', 200],
      ['decode', 20],
    ])
    expect(row(phases[0], '(outside modules)').self_cpu_us).toBe(100)
    expect(row(phases[1], 'aten::mv')).toMatchObject({ calls: 2, total_cpu_us: 5 })
  })

  it('makes a phase inside a phase a part of it', () => {
    const prefill: ScopeInfo = { kind: 'phase', name: 'prefill' }
    const step: ScopeInfo = { kind: 'phase', name: 'step' }
    const phases = build([
      event('scope', ROOT.label, 0, 100_000),
      event('scope', scopeLabel(prefill), 10_000, 90_000),
      event('scope', scopeLabel(step), 20_000, 80_000),
      event('scope', scopeLabel(MODEL), 30_000, 50_000),
      event('op', 'aten::argmax', 60_000, 65_000),
    ])
    expect(phases.map(({ name }) => name)).toEqual(['prefill'])
    const outside = row(phases[0], '(outside modules)')
    expect(row(phases[0], 'LlamaModel')).toMatchObject({ parent: null, total_cpu_us: 20 })
    expect(outside).toMatchObject({ self_cpu_us: 55, total_cpu_us: 60, calls: 0 })
    expect(row(phases[0], 'aten::argmax').parent).toBe(outside.id)
  })

  it('books kernels under the op that launched them, also when they run later', () => {
    const [phase] = build([
      event('scope', ROOT.label, 0, 1000),
      event('op', 'aten::mm', 100, 200, { correlation: 7 }),
      event('op', 'aten::mm', 300, 400, { correlation: 8 }),
      event('kernel', 'gemm', 150, 650, { device: 'cuda:0', thread: 9, linked: 7 }),
      event('kernel', 'gemm', 700, 5200, { device: 'cuda:0', thread: 9, linked: 8 }),
      event('kernel', 'memset', 900, 950, { device: 'cuda:0', thread: 9 }),
    ])
    const mm = row(phase, 'aten::mm')
    expect(mm).toMatchObject({ self_device_us: 0, total_device_us: 5, total_cpu_us: 0.2 })
    const gemm = row(phase, 'gemm')
    expect(gemm).toMatchObject({
      kind: 'kernel',
      parent: mm.id,
      device: 'cuda:0',
      calls: 2,
      self_device_us: 5,
    })
    expect(row(phase, 'memset').parent).toBe(row(phase, '(outside modules)').id)
    expect(phase!.total_device_us).toBeCloseTo(5.05, 9)
    expect(phase!.total_cpu_us).toBe(1)
  })

  it('accounts for the event loop, for other threads and for the cost of scopes', () => {
    const [phase] = build(
      [
        event('scope', ROOT.label, 0, 100_000),
        event('scope', scopeLabel(RMS_NORM), 10_000, 20_000),
        event('op', 'aten::mul', 12_000, 14_000),
        event('op', 'aten::sum', 50_000, 57_000, { thread: 2 }),
      ],
      {
        idle: new Map([[ROOT.label, 30_000]]),
        cost: { scope: { inside: 1_000, outside: 500 }, op: FREE },
      },
    )
    expect(row(phase, 'RMSNorm').self_cpu_us).toBe(7)
    // Two scopes (the root and the module), one of them inside another.
    expect(row(phase, '(profiler)').self_cpu_us).toBe(2.5)
    expect(row(phase, '(idle)').self_cpu_us).toBe(30)
    expect(row(phase, '(outside modules)').self_cpu_us).toBe(100 - 10 - 30 - 1.5)
    expect(row(phase, '(other threads)').total_cpu_us).toBe(7)
    expect(phase!.total_cpu_us).toBe(107)
  })

  it('ends what was never ended with what it is in', () => {
    const [phase] = build([
      event('scope', ROOT.label, 1000, 2000),
      event('op', 'aten::open', 1500, 0),
      event('op', 'aten::late', 1600, 2300),
    ])
    expect(row(phase, 'aten::open')).toMatchObject({ total_cpu_us: 0.5, self_cpu_us: 0.1 })
    expect(row(phase, 'aten::late').total_cpu_us).toBe(0.4)
    expect(phase!.total_cpu_us).toBe(1)
  })

  it('gives no phase where nothing was recorded', () => {
    expect(build([])).toEqual([])
  })

  it.each(Array.from({ length: 40 }, (_, seed) => seed))(
    'adds up to the total (random program %i)',
    (seed) => {
      const { events, calls } = randomProgram(seed)
      const random = uniform(seed + 1000)
      const phases = build(events, {
        idle: new Map([[ROOT.label, random() * 5e5]]),
        cost: {
          scope: { inside: random() * 200, outside: random() * 200 },
          op: { inside: 0, outside: random() * 200 },
        },
      })
      const [phase] = phases
      expect(phases).toHaveLength(1)
      const root = events.find(({ name }) => name === ROOT.label)!
      // The second thread ran one event, with all others of its inside.
      const second = events.filter(({ thread, kind }) => thread === 2 && kind !== 'kernel')
      const elsewhere = Math.max(...second.map(({ start, end }) => end - start)) / 1000
      // Sums of doubles in another order: far below the nanosecond, but not exact.
      expect(sum(phase!, 'self_cpu_us')).toBeCloseTo(phase!.total_cpu_us, 6)
      expect(phase!.total_cpu_us).toBeCloseTo((root.end - root.start) / 1000 + elsewhere, 6)
      expect(sum(phase!, 'self_device_us')).toBeCloseTo(phase!.total_device_us, 6)
      for (const { id, self_cpu_us, total_cpu_us, total_device_us } of phase!.rows) {
        expect(phase!.rows[id]!.id).toBe(id)
        expect(self_cpu_us).toBeGreaterThanOrEqual(0)
        const below = phase!.rows.filter(({ parent }) => parent === id)
        expect(total_cpu_us).toBeCloseTo(
          self_cpu_us + below.reduce((sum, row) => sum + row.total_cpu_us, 0),
          6,
        )
        const device = below.reduce((sum, row) => sum + row.total_device_us, phase!.rows[id]!.self_device_us)
        expect(total_device_us).toBeCloseTo(device, 6)
      }
      const counted = phase!.rows.filter(({ name }) => !name.startsWith('('))
      expect(counted.reduce((sum, row) => sum + row.calls, 0)).toBe(calls)
    },
  )
})

/** Modules and ops nested at random, kernels of some, a second thread; `calls`: events but for the root. */
function randomProgram(seed: number): { events: RawEvent[]; calls: number } {
  const random = uniform(seed)
  const events: RawEvent[] = []
  let now = 1000
  const run = (depth: number, thread: number): void => {
    const start = now
    now += Math.floor(random() * 500)
    for (let n = Math.floor(random() * 4); n > 0 && depth < 5; n--) {
      run(depth + 1, thread)
      now += Math.floor(random() * 300)
    }
    const pick = Math.floor(random() * 3)
    const correlation = events.length + 1
    if (pick === 0 && thread === 1) {
      const info: ScopeInfo = { kind: 'module', class: `M${pick}`, path: `m.${Math.floor(random() * 3)}` }
      events.push(event('scope', scopeLabel(info), start, now, { thread, correlation }))
    } else {
      const types = { dtypes: ['float'], shapes: [[Math.floor(random() * 2)]] }
      events.push(event('op', `aten::op${pick}`, start, now, { thread, correlation, ...types }))
      if (random() < 0.4) {
        const at = now + random() * 4000
        events.push(
          event('kernel', `k${pick}`, at, at + 700, { device: 'cuda:0', thread: 0, linked: correlation }),
        )
      }
    }
  }
  for (let i = 0; i < 6; i++) run(0, 1)
  const end = now + 500
  now = 1500
  run(3, 2)
  events.push(event('scope', ROOT.label, 500, Math.max(end, now + 100)))
  return { events, calls: events.length - 1 }
}

describe('recordingCost', () => {
  it('separates what lies inside a scope from what lies around it, untroubled by an interruption', () => {
    const cost = recordingCost({ op: 300, recordedOp: 900, recordedScope: 1000 }, [300, 310, 290, 9000])
    expect(cost).toEqual({ scope: { inside: 310, outside: 690 }, op: { inside: 0, outside: 600 } })
  })

  it('is never negative, and nothing without a calibration', () => {
    expect(recordingCost({ op: 300, recordedOp: 200, recordedScope: 0 }, [])).toEqual(UNRECORDED)
  })
})

describe('torchDtype', () => {
  it.each([
    ['float', 'float32'],
    ['c10::BFloat16', 'bfloat16'],
    ['c10::Half', 'float16'],
    ['long int', 'int64'],
    ['unsigned char', 'uint8'],
    ['TensorList', 'Tensor[]'],
    ['Scalar', ''],
    ['', ''],
    ['c10::NewType', 'c10::NewType'],
  ])('names %s as PyTorch does: %s', (name, expected) => {
    expect(torchDtype(name)).toBe(expected)
  })
})
