// SPDX-License-Identifier: Apache-2.0
// What is recorded of real programs, by both ways of recording.
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import {
  callAsync,
  defineScope,
  enterScope,
  exitScope,
  Library,
  lastProfile,
  ones,
  type ProfilePhase,
  type ProfileRecord,
  type ProfileRow,
  phase,
  profile,
  range,
  type Tensor,
  torch,
} from '../src/index'

const norm = defineScope({ kind: 'module', class: 'Norm', path: 'model.norm', weight: 'float32[8]' })

function named(phase: ProfilePhase | undefined, name: string): ProfileRow[] {
  return phase!.rows.filter((row) => row.name === name)
}

/** The names above a row, from the top. */
function above(phase: ProfilePhase, row: ProfileRow): string[] {
  return row.parent === null ? [] : [...above(phase, phase.rows[row.parent]!), phase.rows[row.parent]!.name]
}

function expectWhole({ phases }: ProfileRecord): void {
  for (const { rows, total_cpu_us } of phases) {
    const self = rows.reduce((sum, row) => sum + row.self_cpu_us, 0)
    expect(Math.abs(self / total_cpu_us - 1)).toBeLessThan(1e-3)
  }
}

/** A small model: a module with a product, steps of growing size in phases, ops outside. */
async function program(): Promise<void> {
  const weight = ones([8, 8])
  for (let step = 1; step <= 3; step++) {
    await phase('decode', () => {
      const x = ones([step, 8])
      for (let layer = 0; layer < 2; layer++) {
        enterScope(norm)
        torch.aten!.linear!(x, weight)
        exitScope(norm)
      }
      torch.aten!.neg!(x)
    })
  }
}

describe.each(['events', 'tables'] as const)('a profile by %s', (record) => {
  it('has every call with types, shapes, work and memory', async () => {
    const { record: made } = await profile(program, { record })
    const [decode] = made.phases
    expect(decode).toMatchObject({ name: 'decode', steps: 3 })
    expect(named(decode, 'Norm')).toMatchObject([{ calls: 6, weight: 'float32[8]' }])
    const linear = named(decode, 'aten::linear')
    expect(linear.map(({ calls, shapes, flops }) => [calls, shapes.slice(0, 2), flops])).toEqual(
      [1, 2, 3].map((m) => [
        2,
        [
          [m, 8],
          [8, 8],
        ],
        2 * (2 * m * 8 * 8),
      ]),
    )
    // A row of 8 float32, in memory that is given out in lines of 64 bytes or exactly.
    expect(linear[0]!.allocated_bytes).toBeGreaterThanOrEqual(2 * 8 * 4)
    expect(linear[0]!.peak_bytes).toBeGreaterThanOrEqual(8 * 4)
    for (const { calls, min_us, p50_us, p95_us, max_us } of linear) {
      expect(calls).toBe(2)
      expect([min_us, p50_us, p95_us, max_us]).toEqual([min_us, p50_us, p95_us, max_us].sort((a, b) => a - b))
      expect(min_us).toBeGreaterThan(0)
    }
    expectWhole(made)
  })

  it('keeps ranges apart that run at the same time, across await', async () => {
    const x = ones([4])
    const ops = async (name: 'sin' | 'cos', ms: number) => {
      for (let i = 0; i < 3; i++) {
        torch.aten![name]!(x)
        await sleep(ms)
      }
      await range('inner', () => torch.aten![name]!(x))
    }
    const { record: made } = await profile(
      async () => {
        const both = [range('a', () => ops('sin', 1)), range('b', () => ops('cos', 2))]
        torch.aten!.neg!(x)
        await Promise.all(both)
        torch.aten!.neg!(x)
      },
      { record },
    )
    const [run] = made.phases
    expect(named(run, 'a')).toMatchObject([{ calls: 1 }])
    expect(named(run, 'b')).toMatchObject([{ calls: 1 }])
    const places = (name: string) => named(run, name).map((row) => [above(run!, row).join(' '), row.calls])
    expect(places('aten::sin')).toEqual([
      ['a', 3],
      ['a inner', 1],
    ])
    expect(places('aten::cos')).toEqual([
      ['b', 3],
      ['b inner', 1],
    ])
    expect(named(run, 'aten::neg')).toMatchObject([
      { calls: 2, parent: named(run, '(outside modules)')[0]!.id },
    ])
    expectWhole(made)
  })

  it('has ops whose kernels are TypeScript, and what they call', async () => {
    using library = new Library(`profiled_${record}`, 'DEF')
    library.define('twice(Tensor x) -> Tensor')
    library.impl('twice', (x: Tensor) => torch.aten!.add!.Tensor!(x, x), 'CPU')
    const op = torch[`profiled_${record}`]!.twice!
    const { record: made } = await profile(() => void op(ones([3])), { record })
    const [run] = made.phases
    const [twice] = named(run, `profiled_${record}::twice`)
    expect(twice).toMatchObject({ kind: 'op', calls: 1, dtypes: ['float32'], shapes: [[3]] })
    expect(named(run, 'aten::add')).toMatchObject([{ parent: twice!.id }])
  })

  it('has what this thread has others call, also where it records no others', async () => {
    const x = ones([300, 300])
    const { record: made } = await profile(
      async () => {
        for (let i = 0; i < 5; i++) (await callAsync(torch.aten!.mm!, [x, x])).dispose()
      },
      { record, threads: false },
    )
    const mm = named(made.phases[0], 'aten::mm')
    expect(mm.reduce((sum, { calls }) => sum + calls, 0)).toBe(5)
    expect(mm[0]).toMatchObject({
      shapes: [
        [300, 300],
        [300, 300],
      ],
    })
  })

  it('has the ops of other threads in the phases in which they ran', async () => {
    const worker = new Worker(new URL('./profiler-worker.mjs', import.meta.url))
    const next = () => new Promise((resolve) => worker.once('message', resolve))
    await next()
    const { record: made } = await profile(
      async () => {
        await phase('before', () => sleep(20))
        worker.postMessage('go')
        await next()
        // In the middle of a scope of the worker's that stays open.
        await phase('first', () => sleep(30))
        await phase('second', () => sleep(30))
        await worker.terminate()
      },
      { record },
    )
    const calls = made.phases.map((each) =>
      named(each, 'aten::tanh').reduce((sum, row) => sum + row.calls, 0),
    )
    expect(calls[0]).toBe(0)
    expect(Math.min(calls[1]!, calls[2]!)).toBeGreaterThan(10)
    for (const each of made.phases.slice(1)) {
      const [tanh] = named(each, 'aten::tanh')
      expect(above(each, tanh!)[0]).toBe('(other threads)')
    }
    expectWhole(made)
  })

  it('says which scopes were left open, and keeps what they hold', async () => {
    const { record: made } = await profile(
      () => {
        enterScope(norm)
        torch.aten!.neg!(ones([2]))
      },
      { record },
    )
    expect(made.warnings).toEqual([
      'the scope Norm(model.norm) was left open; it ends with what it was opened in',
    ])
    expect(named(made.phases[0], 'aten::neg')[0]!.path).toBe('model.norm')
  })

  it('keeps what ran before a throw', async () => {
    const failing = profile(
      () => {
        torch.aten!.neg!(ones([2]))
        throw new Error('in the middle')
      },
      { record },
    )
    await expect(failing).rejects.toThrow('in the middle')
    expect(named(lastProfile()!.phases[0], 'aten::neg')).toMatchObject([{ calls: 1 }])
  })

  it('sees the ops and modules of workers, and survives one that is ended in the middle', async () => {
    const worker = new Worker(new URL('./profiler-worker.mjs', import.meta.url))
    const next = () => new Promise((resolve) => worker.once('message', resolve))
    await next()
    const { record: made } = await profile(
      async () => {
        worker.postMessage('go')
        await next()
        await worker.terminate()
        torch.aten!.neg!(ones([2]))
      },
      { record },
    )
    const [run] = made.phases
    const [elsewhere] = named(run, '(other threads)')
    expect(elsewhere!.parent).toBeNull()
    const tanh = named(run, 'aten::tanh')
    expect(tanh.reduce((sum, { calls }) => sum + calls, 0)).toBeGreaterThanOrEqual(100)
    expect(above(run!, tanh[0]!)).toEqual(['(other threads)', 'Worker'])
    expect(named(run, 'aten::neg')).toMatchObject([{ calls: 1 }])
    expectWhole(made)
  })
})

describe('both ways of recording', () => {
  it('count the same ops of the same shapes at the same places', async () => {
    const records: [string, number, string][][] = []
    for (const how of ['events', 'tables'] as const) {
      const { record } = await profile(program, { record: how })
      const rows = record.phases[0]!.rows.filter(({ kind }) => kind === 'op' || kind === 'module')
      records.push(
        rows.map((row) => [
          above(record.phases[0]!, row).join(' '),
          row.calls,
          JSON.stringify([row.name, row.shapes, row.dtypes]),
        ]),
      )
    }
    expect(records[0]!.length).toBeGreaterThan(5)
    expect(records[1]!.sort()).toEqual(records[0]!.sort())
  })

  it('miss no call of a long run, whose tables are added up many times', async () => {
    const x = ones([2])
    const calls = 40_000
    const { record: made } = await profile(
      () => {
        for (let i = 0; i < calls; i++) {
          if (i % 2 === 0) enterScope(norm)
          torch.aten!.neg!(x).dispose()
          if (i % 2 === 0) exitScope(norm)
        }
      },
      { record: 'tables' },
    )
    const [run] = made.phases
    const modules = run!.rows.filter(({ kind }) => kind === 'module')
    expect(modules).toMatchObject([{ name: 'Norm', calls: calls / 2 }])
    expect(named(run, 'aten::neg').map((row) => row.calls)).toEqual([calls / 2, calls / 2])
    expect(run!.rows.map(({ name }) => name).filter((name) => name.startsWith('vllm-ops:'))).toEqual([])
    expectWhole(made)
  })

  it('add up what has too many shapes, in a table of bounded size', async () => {
    const { record } = await profile(
      () => {
        for (let n = 1; n <= 1000; n++) torch.aten!.neg!(ones([n]))
      },
      { record: 'tables' },
    )
    const rows = named(record.phases[0], 'aten::neg')
    expect(rows.reduce((sum, { calls }) => sum + calls, 0)).toBe(1000)
    expect(rows.length).toBeLessThanOrEqual(257)
    expect(rows.at(-1)!.shapes).toEqual([])
  })
})

describe('using p = profile()', () => {
  it('records until stop()', () => {
    using p = profile({ phase: 'mine' })
    torch.aten!.neg!(ones([2]))
    const record = p.stop()
    expect(record.phases.map(({ name }) => name)).toEqual(['mine'])
    expect(named(record.phases[0], 'aten::neg')).toMatchObject([{ calls: 1 }])
    expect(() => p.stop()).toThrow(
      expect.objectContaining({ code: 'E_PROFILER', message: 'no profile is running' }),
    )
  })

  it('ends with its block, and refuses a second one inside', () => {
    {
      using _ = profile()
      expect(() => profile()).toThrow(expect.objectContaining({ code: 'E_PROFILER' }))
      torch.aten!.exp!(ones([2]))
    }
    expect(named(lastProfile()!.phases[0], 'aten::exp')).toMatchObject([{ calls: 1 }])
    profile().stop()
  })
})
