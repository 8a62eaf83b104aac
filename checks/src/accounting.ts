// SPDX-License-Identifier: Apache-2.0
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  Library,
  ones,
  type ProfilePhase,
  type ProfileRow,
  phase,
  profile,
  randn,
  type Tensor,
  torch,
} from '@vllm-ops/core'
import { type Check, numberOption, reportOf, runTrials, type Trial } from './check'

/** What a profile says of a program is what the program is known to do. */
export const accounting: Check = {
  name: 'accounting',
  describe:
    'a program with known waits, busy times, FLOPs, bytes and allocations: the profile finds each within 2 %, and its rows add up',
  options: [{ name: 'count', value: 'N', help: 'calls and waits of each kind', fallback: '20' }],
  async run(options) {
    const count = numberOption(options, 'count')
    const { figures, failures } = await runTrials('accounting', trials, 'cpu', count)
    return reportOf(figures, failures)
  },
}

const HOW = ['events', 'tables'] as const

const trials: Readonly<Record<string, Trial>> = {
  /** Waits of the event loop, as a clock beside the profile measures them. */
  async waits(_, count) {
    return await byBoth(async (record) => {
      let waited = 0
      const { record: made } = await profile(
        () =>
          phase('waits', async () => {
            for (let i = 0; i < count; i++) {
              const start = performance.now()
              await sleep(100)
              waited += (performance.now() - start) * 1000
            }
          }),
        { record },
      )
      return found(rowOf(made.phases[0]!, '(idle)').self_cpu_us, waited)
    })
  },

  /** Ops that take as long as a clock around them says. */
  async busy(_, count) {
    using library = new Library('accounting', 'DEF')
    library.define('spin(Tensor x) -> Tensor')
    library.impl(
      'spin',
      (x: Tensor) => {
        const start = performance.now()
        while (performance.now() - start < 20);
        return x.clone()
      },
      'CPU',
    )
    const x = ones([1])
    const spin = torch.accounting!.spin!
    spin(x)
    return await byBoth(async (record) => {
      let spent = 0
      const { record: made } = await profile(
        () => {
          for (let i = 0; i < count; i++) {
            const start = performance.now()
            spin(x)
            spent += (performance.now() - start) * 1000
          }
        },
        { record },
      )
      const row = rowOf(made.phases[0]!, 'accounting::spin')
      assert.equal(row.calls, count)
      return found(row.total_cpu_us, spent)
    })
  },

  /** Products of known work and results of known size. */
  async work(_, count) {
    const [m, k, n] = [64, 128, 256]
    const [a, b] = [randn([m, k]), randn([k, n])]
    torch.aten.mm(a, b)
    return await byBoth(async (record) => {
      const { record: made } = await profile(
        () => {
          for (let i = 0; i < count; i++) torch.aten.mm(a, b).dispose()
        },
        { record },
      )
      const row = rowOf(made.phases[0]!, 'aten::mm')
      found(row.flops, 2 * m * k * n * count)
      found(row.bytes, 4 * (m * k + k * n + m * n) * count)
      return found(row.allocated_bytes, 4 * m * n * count)
    })
  },
}

/** The figures of both ways of recording. */
async function byBoth(
  run: (record: (typeof HOW)[number]) => Promise<Record<string, number>>,
): Promise<Record<string, unknown>> {
  const figures: Record<string, unknown> = {}
  for (const record of HOW) figures[record] = await run(record)
  return figures
}

/** What was found, if that is what it had to be, within 2 %. */
function found(value: number, expected: number): Record<string, number> {
  const ratio = value / expected
  assert.ok(Math.abs(ratio - 1) <= 0.02, `found ${value} for ${expected}`)
  return { value, expected, ratio }
}

/** The only row of a name, in a phase whose rows add up. */
function rowOf({ rows, total_cpu_us }: ProfilePhase, name: string): ProfileRow {
  const self = rows.reduce((sum, row) => sum + row.self_cpu_us, 0)
  assert.ok(Math.abs(self / total_cpu_us - 1) < 1e-3, `self times are ${self} of ${total_cpu_us} µs`)
  const named = rows.filter((row) => row.name === name)
  assert.equal(named.length, 1, `${named.length} rows are ${name}`)
  return named[0]!
}
