// SPDX-License-Identifier: Apache-2.0
import { type Check, numberOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

/** What a worker does when it is ended; `src/children/busy-worker.ts` has the bodies. */
export const busyBodies = [
  'op',
  'smallOps',
  'results',
  'errors',
  'addonErrors',
  'kernel',
  'throwingKernel',
  'data',
  'borrowed',
  'scope',
  'asyncCalls',
  'asyncErrors',
  'share',
  'profile',
] as const

/** What one parent process found. */
export interface Terminations {
  readonly ended: number
  readonly sum: number
}

/** Workers of one process; more than one process, so that a failure costs the rest nothing. */
const WORKERS = 40

/** Ending a worker at any moment ends nothing else. */
export const terminate: Check = {
  name: 'terminate',
  describe:
    'workers ended in the middle of sync, async and throwing calls: the parent goes on and exits with 0',
  options: [
    { name: 'first', value: 'N', help: 'the first of them, to replay some', fallback: '0' },
    { name: 'count', value: 'N', help: 'workers', fallback: '800' },
    { name: 'seed', value: 'S', help: 'chooses the moments', fallback: '1' },
    { name: 'parallel', value: 'N', help: 'workers at a time', fallback: '4' },
  ],
  async run(options) {
    const start = numberOption(options, 'first')
    const end = start + numberOption(options, 'count')
    const seed = numberOption(options, 'seed')
    const parallel = Math.max(1, numberOption(options, 'parallel'))
    const failures: string[] = []
    let ended = 0
    let parents = 0
    for (let first = start; first < end; first += WORKERS) {
      const task = { first, count: Math.min(WORKERS, end - first), seed, parallel }
      say(`terminate: workers ${first} to ${first + task.count - 1}`)
      const outcome = await runChild('terminate', task, { timeoutMs: 300_000 })
      parents++
      const found = resultOf<Terminations>(outcome)
      const replay = `--first ${first} --count ${task.count} --seed ${seed}`
      if (!found) failures.push(`${replay}: ${endOf(outcome)}`)
      else if (found.sum !== 4) failures.push(`${replay}: the parent computes ${found.sum} for 4`)
      ended += found?.ended ?? 0
    }
    return reportOf({ workers: ended, parents, abnormal: failures.length }, failures)
  },
}
