// SPDX-License-Identifier: Apache-2.0
import { type Check, numberOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

const MB = 2 ** 20
/** More than what an allocator's caches vary by, less than 20 bytes a round. */
const MOST_GROWTH = 16 * MB

/** How tensors are made and freed; `src/children/leak.ts` has the loops. */
export const leakModes = ['dispose', 'using', 'scope', 'await', 'arguments'] as const

/** Resident memory after a part of the rounds, in bytes. */
export interface Growth {
  readonly warm: number
  readonly end: number
  readonly live: number
}

/** Nothing stays behind of tensors that were disposed. */
export const leak: Check = {
  name: 'leak',
  describe:
    'create, op, dispose; in a scope; across await; arguments of all kinds: under 16 MB growth after the first tenth',
  options: [{ name: 'count', value: 'N', help: 'rounds of each mode', fallback: '1000000' }],
  async run(options) {
    const count = numberOption(options, 'count')
    const failures: string[] = []
    const grownBytes: Record<string, number> = {}
    for (const mode of leakModes) {
      say(`leak: ${count} rounds of ${mode}`)
      const outcome = await runChild('leak', { mode, count }, { execArgv: ['--expose-gc'] })
      const growth = resultOf<Growth>(outcome)
      if (!growth) {
        failures.push(`${mode}: ${endOf(outcome)}`)
        continue
      }
      grownBytes[mode] = growth.end - growth.warm
      if (growth.end - growth.warm >= MOST_GROWTH)
        failures.push(`${mode}: grew by ${growth.end - growth.warm} bytes in ${count} rounds`)
      if (growth.live !== 0) failures.push(`${mode}: ${growth.live} tensors are left`)
    }
    return reportOf({ grownBytes, mostBytes: MOST_GROWTH }, failures)
  },
}
