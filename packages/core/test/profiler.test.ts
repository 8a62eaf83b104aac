// SPDX-License-Identifier: Apache-2.0
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeEach, describe, expect, it } from 'vitest'
import { Profiler } from '../src/profiler/profiler'
import { ACCOUNTING_ROWS, type ProfilePhase } from '../src/profiler/record'
import { event, FakeNative } from './profiler-events'

const NONE = { dtypes: [], shapes: [] }
let native: FakeNative
let profiler: Profiler

beforeEach(() => {
  native = new FakeNative()
  profiler = new Profiler(
    () => native,
    () => false,
  )
})

/** Rows but for the accounting: name, depth by parents, total. */
function tree(phase: ProfilePhase): [string, number | null, number][] {
  const accounting: string[] = Object.values(ACCOUNTING_ROWS)
  const rows = phase.rows.filter(({ name }) => !accounting.includes(name))
  return rows.map(({ name, parent, total_cpu_us }) => [name, parent, total_cpu_us])
}

describe('Profiler', () => {
  it('warns where a device was used and recorded nothing', async () => {
    const onDevice = new Profiler(
      () => native,
      () => true,
    )
    const warningsOf = async (body: () => void) => (await onDevice.profile(body)).record.warnings
    const op = () => native.op('aten::mm', 1000, NONE)
    expect(await warningsOf(op)).toEqual([])
    native.inUse = ['cuda:0', 'cuda:1']
    expect(await warningsOf(op)).toEqual([
      expect.stringMatching(/^no kernel of cuda:0, cuda:1 was recorded: another profiler/),
    ])
    expect(
      await warningsOf(() => {
        op()
        native.events.push(event('runtime', 'cudaDeviceSynchronize', 0, 1))
      }),
    ).toEqual([])
  })

  it('books ops under the module scopes that are open', async () => {
    const mlp = profiler.defineScope({ kind: 'module', class: 'LlamaMLP', path: 'mlp' })
    const act = profiler.defineScope({
      kind: 'module',
      class: 'SiluAndMul',
      path: 'mlp.act_fn',
      weight: undefined,
    })
    const { result, record } = await profiler.profile(() => {
      profiler.enterScope(mlp)
      native.op('aten::linear', 4000, NONE, () => native.op('aten::mm', 1000, NONE))
      profiler.enterScope(act)
      native.op('vllm_ops::silu_and_mul', 2000, NONE)
      profiler.exitScope(act)
      profiler.exitScope(mlp)
      return 'done'
    })
    expect(result).toBe('done')
    expect(record.phases.map(({ name }) => name)).toEqual(['run'])
    expect(tree(record.phases[0]!)).toEqual([
      ['LlamaMLP', null, 7],
      ['aten::linear', 0, 5],
      ['aten::mm', 1, 1],
      ['SiluAndMul', 0, 2],
      ['vllm_ops::silu_and_mul', 3, 2],
    ])
    expect(record.version).toBe(2)
    expect(record.environment).toMatchObject({ torch: '2.13.0', threads: 2, node: process.version })
    expect(JSON.parse(JSON.stringify(record))).toEqual(record)
  })

  it('records nothing while not profiling', async () => {
    const range = profiler.defineScope({ kind: 'range', name: 'tokenize' })
    expect(profiler.profiling()).toBe(false)
    profiler.enterScope(range)
    expect(await profiler.phase('prefill', () => 7)).toBe(7)
    const { record } = await profiler.profile(() => {
      expect(profiler.profiling()).toBe(true)
      // Was entered before the profile: nothing to close.
      profiler.exitScope(range)
      native.op('aten::add', 1000, NONE)
    })
    expect(profiler.profiling()).toBe(false)
    expect(tree(record.phases[0]!).map(([name]) => name)).toEqual(['aten::add'])
  })

  it('gives one id to equal scopes and different ids to others', () => {
    const norm = (path: string, weight: string) =>
      profiler.defineScope({ kind: 'module', class: 'N', path, weight })
    expect(norm('a', 'float32[4]')).toBe(norm('a', 'float32[4]'))
    const ids = [norm('a', 'float32[4]'), norm('b', 'float32[4]'), norm('a', 'bfloat16[4]')]
    ids.push(
      profiler.defineScope({ kind: 'range', name: 'a' }),
      profiler.defineScope({ kind: 'phase', name: 'a' }),
    )
    expect(new Set(ids).size).toBe(5)
  })

  it('closes what a throw left open, and goes on', async () => {
    const outer = profiler.defineScope({ kind: 'range', name: 'outer' })
    const inner = profiler.defineScope({ kind: 'range', name: 'inner' })
    const { record } = await profiler.profile(() => {
      profiler.enterScope(outer)
      try {
        profiler.enterScope(inner)
        native.op('aten::fails', 1000, NONE)
        throw new Error('in the middle')
      } catch {
        profiler.exitScope(outer)
      }
      native.op('aten::after', 1000, NONE)
    })
    expect(tree(record.phases[0]!)).toEqual([
      ['outer', null, 1],
      ['inner', 0, 1],
      ['aten::fails', 1, 1],
      ['aten::after', 3, 1],
    ])
  })

  it('throws on what the program throws and can profile again', async () => {
    const range = profiler.defineScope({ kind: 'range', name: 'left open' })
    const failure = profiler.profile(() => {
      profiler.enterScope(range)
      throw new Error('no luck')
    })
    await expect(failure).rejects.toThrow('no luck')
    expect(native.recording).toBe(false)
    const { record } = await profiler.profile(() => native.op('aten::add', 1000, NONE))
    expect(tree(record.phases[0]!)).toEqual([['aten::add', 0, 1]])
  })

  it('refuses a profile inside a profile, which it leaves alone', async () => {
    const { record } = await profiler.profile(async () => {
      const inner = profiler.profile(() => 1)
      await expect(inner).rejects.toMatchObject({ name: 'VllmOpsError', code: 'E_PROFILER' })
      native.op('aten::add', 1000, NONE)
    })
    expect(tree(record.phases[0]!)).toEqual([['aten::add', 0, 1]])
  })

  it('refuses a scope that nobody defined', async () => {
    const run = profiler.profile(() => profiler.enterScope(99))
    await expect(run).rejects.toMatchObject({ code: 'E_PROFILER', message: expect.stringContaining('99') })
  })

  it('separates phases and leaves out what runs before and after', async () => {
    const { record } = await profiler.profile(async () => {
      native.op('aten::warm_up', 9000, NONE)
      await profiler.phase('prefill', () => native.op('aten::mm', 5000, NONE))
      for (let i = 0; i < 2; i++)
        await profiler.phase(`decode[${i}]`, async () => native.op('aten::mv', 1000 * (i + 1), NONE))
    })
    expect(record.phases.map(({ name, total_cpu_us }) => [name, total_cpu_us])).toEqual([
      ['prefill', 5],
      ['decode[0]', 1],
      ['decode[1]', 2],
    ])
  })

  it('keeps phases apart whose ends overlap inside another of the same name', async () => {
    let endInner = () => {}
    const inner = new Promise<void>((resolve) => {
      endInner = resolve
    })
    const { record } = await profiler.profile(async () => {
      let rest: Promise<void> = Promise.resolve()
      await profiler.phase('prefill', () => {
        rest = profiler.phase('prefill', () => {
          native.op('aten::mm', 5000, NONE)
          return inner
        })
      })
      await profiler.phase('decode[0]', async () => {
        endInner()
        await rest
        native.op('aten::mv', 1000, NONE)
      })
    })
    expect(record.phases.map(({ name, total_cpu_us }) => [name, total_cpu_us])).toEqual([
      ['prefill', 5],
      ['decode[0]', 1],
    ])
  })

  it('closes a phase whose function throws', async () => {
    const { record } = await profiler.profile(async () => {
      await expect(profiler.phase('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
      await profiler.phase('b', () => native.op('aten::add', 1000, NONE))
    })
    expect(record.phases.map(({ name, total_cpu_us }) => [name, total_cpu_us])).toEqual([
      ['a', 0],
      ['b', 1],
    ])
  })

  it('counts what the event loop waited as idle, once in nested phases', async () => {
    const waits = async () => {
      await sleep(100)
      native.now += 1e9
    }
    const start = performance.now()
    const { record } = await profiler.profile(() =>
      profiler.phase('wait', () => profiler.phase('wait', waits)),
    )
    const took = (performance.now() - start) * 1000
    const [phase] = record.phases
    const idle = phase!.rows.find(({ name }) => name === '(idle)')!.self_cpu_us
    // The test runner keeps the loop busy for some of the 100 ms.
    expect(idle).toBeGreaterThan(0.2 * took)
    expect(idle).toBeLessThan(took)
    expect(phase!.name).toBe('wait')
    // The parts of the total are doubles that depend on the real wait: their sum is a few units in the last place off.
    expect(phase!.total_cpu_us).toBeCloseTo(1e6, 6)
  })

  it('names the phase of an unmarked profile as asked', async () => {
    const { record } = await profiler.profile(() => native.op('aten::add', 1000, NONE), { phase: 'sum' })
    expect(record.phases.map(({ name, total_cpu_us }) => [name, total_cpu_us])).toEqual([['sum', 1]])
  })
})
