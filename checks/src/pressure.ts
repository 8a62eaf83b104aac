// SPDX-License-Identifier: Apache-2.0
import { type Check, numberOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

const MB = 2 ** 20

/** Loops that never dispose: how large each tensor is, and the peak that is allowed above what the process had before. */
const LOOPS = [
  { name: 'large', bytes: MB, count: 3000, mostBytes: 200 * MB },
  { name: 'small', bytes: 256, count: 1_000_000, mostBytes: 100 * MB },
] as const

/** A child's findings. */
export interface Pressure {
  readonly grown: number
  readonly live: number
  /** The code of the error that ended the loop early, if one did. */
  readonly code?: string
}

/** Forgotten tensors never end the process. */
export const pressure: Check = {
  name: 'pressure',
  describe:
    'tensors never disposed in a synchronous loop: a bounded peak; where finalizers run late, a warning that names `using`, and no kill',
  options: [{ name: 'percent', value: 'N', help: 'how much of each loop to run', fallback: '100' }],
  async run(options) {
    const percent = numberOption(options, 'percent')
    const failures: string[] = []
    const figures: Record<string, unknown> = {}
    for (const { name, bytes, count, mostBytes } of LOOPS) {
      const task = { bytes, count: Math.ceil((count * percent) / 100) }
      say(`pressure: ${task.count} × ${bytes} bytes`)
      const outcome = await runChild('pressure', task)
      const found = resultOf<Pressure>(outcome)
      if (!found) failures.push(`${name}: ${endOf(outcome)}`)
      else if (found.code) failures.push(`${name}: ended by ${found.code}`)
      else if (found.grown >= mostBytes) failures.push(`${name}: the peak grew by ${found.grown} bytes`)
      figures[name] = { ...task, peakBytes: found?.grown, mostBytes }

      say(`pressure: ${task.count} × ${bytes} bytes, finalizers late`)
      const limit = 512 * MB
      const late = await runChild(
        'pressure',
        { ...task, limit },
        { env: { VLLM_OPS_EMULATE: 'late-finalizers' } },
      )
      const foundLate = resultOf<Pressure>(late)
      const warned = late.stderr.includes('VLLM_OPS_LIVE_TENSORS') && late.stderr.includes('`using`')
      if (!foundLate) failures.push(`${name}, finalizers late: ${endOf(late)}`)
      else {
        if (task.bytes * task.count > 256 * MB && !warned)
          failures.push(`${name}, finalizers late: no warning`)
        // Beyond the limit the loop has to end, and by an error that says what to do.
        const beyond = task.bytes * task.count > limit
        if (beyond !== (foundLate.code === 'E_OUT_OF_MEMORY'))
          failures.push(`${name}, finalizers late: ended by ${foundLate.code ?? 'nothing'}`)
        if (foundLate.live !== 0)
          failures.push(`${name}, finalizers late: ${foundLate.live} tensors are left`)
      }
      figures[`${name}Late`] = {
        peakBytes: foundLate?.grown,
        warned,
        ended: foundLate?.code ?? null,
        limitBytes: limit,
      }
    }
    return reportOf(figures, failures)
  },
}
