// SPDX-License-Identifier: Apache-2.0
//
// Makes wrong calls, one after the other, and judges their errors.
import { openSync, writeFileSync, writeSync } from 'node:fs'
import { ArgumentError, NoKernelError, scope, setNumThreads, use } from '@vllm-ops/core'
import { SeededRandom } from '@vllm-ops/core/testing'
import cpu from '@vllm-ops/cpu'
import type { BadCallsResult, BadCallsTask } from '../badcalls'
import { taskOf } from '../child'
import { rightCalls, type WrongCall, wrongCall } from '../wrong-calls'

const { seed, first, count, progress } = taskOf<BadCallsTask>()
use(cpu, { strict: true })
setNumThreads(1)
const rights = rightCalls()
writeFileSync(progress, String(first))
const file = openSync(progress, 'r+')
const result: BadCallsResult = { named: 0, unnamed: [], own: 0, taken: 0 }

/** Whether an error says which op, and which argument or what about their number. */
function names({ op }: WrongCall, error: unknown): boolean {
  // A device without a kernel is no fault of one argument: the error names the op, the device and what to install.
  if (error instanceof NoKernelError) return error.message.includes(op)
  if (!(error instanceof ArgumentError) || !error.message.startsWith(`${op}: `)) return false
  return error.argument === ''
    ? /\d+ .*argument/.test(error.expected)
    : error.message.includes(`'${error.argument}'`)
}

for (let number = first; number < first + count; number++) {
  // Of a fixed length, so that a shorter number leaves nothing of a longer one behind.
  writeSync(file, String(number).padStart(12), 0)
  scope(() => {
    const wrong = wrongCall(rights, new SeededRandom(`${seed}:${number}`))
    try {
      wrong.call(...wrong.args)
      result.taken++
    } catch (error) {
      if (wrong.own !== undefined && error === wrong.own) result.own++
      else if (names(wrong, error)) result.named++
      else result.unnamed.push({ number, text: `${wrong.kind} of ${wrong.op} ${wrong.argument}: ${error}` })
    }
  })
}
process.stdout.write(`${JSON.stringify(result)}\n`)
