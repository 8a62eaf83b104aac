// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Check, numberOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

/** What a child is to do: the calls `first` to before `first + count` of a seed. */
export interface BadCallsTask {
  readonly seed: number
  readonly first: number
  readonly count: number
  /** The file in which the number of the call at hand stands, should the process end. */
  readonly progress: string
}

/** What became of a child's calls. */
export interface BadCallsResult {
  /** Refused, by an error that names the op and the argument (or says how many arguments there are). */
  named: number
  /** Refused, by an error that does not: its number and text. */
  readonly unnamed: { readonly number: number; readonly text: string }[]
  /** The caller's own exception, given back. */
  own: number
  /** Taken: the call was not wrong after all. */
  taken: number
}

/** Calls of one process; a new one follows, so that what one call spoils does not hide in the next. */
const CALLS_OF_A_CHILD = 10_000
const LEAST_NAMED = 0.999

/** No wrong call ends the process, and the errors say what was wrong where. */
export const badcalls: Check = {
  name: 'badcalls',
  describe: 'generated wrong calls: no signal, 99.9 % of the errors name op and argument',
  options: [
    { name: 'count', value: 'N', help: 'calls', fallback: '1000000' },
    { name: 'seed', value: 'S', help: 'which calls: the same seed gives the same', fallback: '1' },
    { name: 'first', value: 'N', help: 'number of the first call, to replay one', fallback: '0' },
  ],
  async run(options) {
    const [count, seed, start] = ['count', 'seed', 'first'].map((name) => numberOption(options, name))
    const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-badcalls-'))
    const failures: string[] = []
    const total = { named: 0, own: 0, taken: 0, unnamed: 0 }
    let ended = 0
    try {
      const end = start! + count!
      for (let first = start!; first < end; ) {
        const size = Math.min(CALLS_OF_A_CHILD, end - first)
        const progress = join(folder, String(first))
        const outcome = await runChild(
          'badcalls',
          { seed, first, count: size, progress },
          { timeoutMs: 600_000 },
        )
        const result = resultOf<BadCallsResult>(outcome)
        if (!result) {
          const at = Number(readFileSync(progress, 'utf8'))
          failures.push(`call ${at}: ${endOf(outcome)}; replay: --seed ${seed} --first ${at} --count 1`)
          ended++
          first = Math.max(first, at) + 1
          continue
        }
        total.named += result.named
        total.own += result.own
        total.taken += result.taken
        total.unnamed += result.unnamed.length
        for (const { number, text } of result.unnamed.slice(0, 3)) say(`badcalls: call ${number}: ${text}`)
        first += size
      }
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
    const refused = total.named + total.unnamed
    const share = refused === 0 ? 1 : total.named / refused
    if (share < LEAST_NAMED)
      failures.push(`${total.unnamed} of ${refused} errors do not name the op and the argument`)
    return reportOf({ ...total, ended, namedShare: share, leastNamedShare: LEAST_NAMED }, failures)
  },
}
