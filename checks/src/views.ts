// SPDX-License-Identifier: Apache-2.0
import { type Check, numberOption, reportOf, say } from './check'
import { endOf, resultOf, runChild } from './child'

/** What a child of one runtime found. */
export interface Views {
  readonly rounds: number
  /** What went wrong, by the name of the way. */
  readonly problems: readonly string[]
}

/** Runtimes: Node's own, and one that forbids ArrayBuffers over native memory. */
const RUNTIMES = { own: undefined, copies: 'no-external-buffers' } as const

/** Memory that JavaScript sees is there. */
export const views: Check = {
  name: 'views',
  describe:
    'typed arrays kept after dispose, transferred, cloned, shared: their elements stay, also where the runtime refuses external buffers',
  options: [
    { name: 'count', value: 'N', help: 'rounds of each way', fallback: '2000' },
    { name: 'seed', value: 'S', help: 'chooses sizes and order', fallback: '1' },
  ],
  async run(options) {
    const task = { count: numberOption(options, 'count'), seed: numberOption(options, 'seed') }
    const failures: string[] = []
    const rounds: Record<string, number> = {}
    for (const [runtime, emulate] of Object.entries(RUNTIMES)) {
      say(`views: ${task.count} rounds, ${runtime}`)
      const env = { VLLM_OPS_EMULATE: emulate }
      const outcome = await runChild('views', task, { execArgv: ['--expose-gc'], env, timeoutMs: 1_200_000 })
      const found = resultOf<Views>(outcome)
      rounds[runtime] = found?.rounds ?? 0
      const problems = found ? found.problems : [endOf(outcome)]
      failures.push(...problems.map((problem) => `${runtime}, --seed ${task.seed}: ${problem}`))
    }
    return reportOf({ rounds }, failures)
  },
}
