// SPDX-License-Identifier: Apache-2.0
import { cards } from '@vllm-ops/core'
import { type Placement, placements } from '@vllm-ops/core/testing'
import { type Check, listOption, opsOption, reportOf, say, UsageError } from './check'
import { endOf, resultOf, runChild } from './child'

/** What a child is to run: the cases of one op. */
export interface GuardedTask {
  readonly op: string
  readonly placements: readonly Placement[]
  /** All where there are none. */
  readonly dtypes: readonly string[]
}

/** What a child found of them. */
export interface Guarded {
  /** By placement. */
  readonly passed: Readonly<Record<string, number>>
  readonly problems: readonly string[]
}

const all = cards.map(({ schema }) => schema.slice(0, schema.indexOf('(')))

/** Kernels touch their tensors and nothing else. */
export const guards: Check = {
  name: 'guards',
  describe:
    'all conformance cases of the CPU kernels amid canaries, and up against unreadable pages at both ends: no byte touched',
  options: [
    { name: 'ops', value: 'LIST', help: 'of these ops only', fallback: '' },
    { name: 'dtypes', value: 'LIST', help: 'with these dtypes only', fallback: '' },
    { name: 'placements', value: 'LIST', help: 'where the memory is', fallback: placements.join(',') },
  ],
  async run(options) {
    const failures: string[] = []
    const dtypes = listOption(options, 'dtypes')
    const wanted = listOption(options, 'placements')
    const chosen = placements.filter((placement) => wanted.includes(placement))
    if (chosen.length === 0 || chosen.length < wanted.length)
      throw new UsageError(
        `--placements: known are ${placements.join(', ')}, received '${options.placements}'`,
      )
    const ops = opsOption(options, 'ops', all)
    const cases = Object.fromEntries(chosen.map((placement) => [placement, 0]))
    for (const op of ops) {
      say(`guards: ${op}`)
      const task: GuardedTask = { op, placements: chosen, dtypes }
      const outcome = await runChild('guards', task, { timeoutMs: 1_200_000 })
      const found = resultOf<Guarded>(outcome)
      for (const placement of chosen) cases[placement]! += found?.passed[placement] ?? 0
      const problems = found ? found.problems : [endOf(outcome)]
      failures.push(...problems.map((problem) => `${op}: ${problem}`))
    }
    return reportOf({ cases, touched: failures.length }, failures)
  },
}
