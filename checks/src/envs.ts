// SPDX-License-Identifier: Apache-2.0
import { type Check, numberOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

/** How a worker ends, and the exit code that it then has. */
export const workerEnds = {
  returns: 0,
  exits: 7,
  throws: 1,
  rejects: 1,
  exitsInKernel: 8,
  exitsInGetter: 9,
  terminated: 1,
  exitsWithWork: 6,
} as const

/** How a process ends, and its exit code: those of workers that a process has too, and its own. */
const processEnds = {
  ...workerEnds,
  terminated: undefined,
  exitsInFinish: 5,
  exitsInExitHandler: 4,
} as const

export type ProcessEnd = keyof typeof processEnds

/** What a parent of workers found. */
export interface Cycles {
  readonly cycles: number
  /** Ends with another code than theirs. */
  readonly wrong: readonly string[]
  /** How many libtorch_cpu the process has mapped. */
  readonly libtorches: number
}

/** Environments come and go. */
export const envs: Check = {
  name: 'envs',
  describe:
    'workers load both copies of the package and end in every way, again and again; processes too: no abnormal code, one libtorch',
  options: [
    { name: 'workers', value: 'N', help: 'workers at a time', fallback: '16' },
    { name: 'cycles', value: 'N', help: 'loads of each', fallback: '50' },
  ],
  async run(options) {
    const workers = numberOption(options, 'workers')
    const cycles = numberOption(options, 'cycles')
    const failures: string[] = []
    say(`envs: ${workers} workers × ${cycles} cycles`)
    const outcome = await runChild('envs', { workers, cycles }, { timeoutMs: 1_200_000 })
    const found = resultOf<Cycles>(outcome)
    if (!found) failures.push(`workers: ${endOf(outcome)}`)
    else {
      failures.push(...found.wrong)
      if (found.libtorches !== 1) failures.push(`${found.libtorches} copies of libtorch are mapped`)
    }
    let processes = 0
    for (const [end, code] of Object.entries(processEnds)) {
      if (code === undefined) continue
      say(`envs: a process that ${end}`)
      processes++
      const child = await runChild('ending', { end }, { timeoutMs: 120_000 })
      if (child.code !== code)
        failures.push(`a process that ${end}: ${endOf(child)}, expected exit code ${code}`)
    }
    const figures = { cycles: found?.cycles ?? 0, libtorches: found?.libtorches ?? 0, processes }
    return reportOf({ ...figures, abnormal: failures.length }, failures)
  },
}
