// SPDX-License-Identifier: Apache-2.0
import { cards } from '@vllm-ops/core'
import { placements } from '@vllm-ops/core/testing'
import { type Check, listOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

/** What a child found of the cases of one op. */
export interface Guarded {
  readonly passed: number
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
    const cases: Record<string, number> = {}
    const ops = listOption(options, 'ops')
    for (const placement of listOption(options, 'placements')) {
      cases[placement] = 0
      for (const op of ops.length > 0 ? ops : all) {
        say(`guards: ${op}, ${placement}`)
        const task = { op, placement, dtypes: listOption(options, 'dtypes') }
        const outcome = await runChild('guards', task, { timeoutMs: 1_200_000 })
        const found = resultOf<Guarded>(outcome)
        cases[placement] += found?.passed ?? 0
        const problems = found ? found.problems : [endOf(outcome)]
        failures.push(...problems.map((problem) => `${op}, ${placement}: ${problem}`))
      }
    }
    return reportOf({ cases, touched: failures.length }, failures)
  },
}
