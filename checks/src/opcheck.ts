// SPDX-License-Identifier: Apache-2.0
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cards, use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import { type Check, opsOption, type Report, reportOf, say } from './check'
import { endOf, type Outcome, resultOf, runProgram } from './child'
import { pythonOf, pythonOption } from './python'
import { nameOf, samplesOf } from './samples'

const script = fileURLToPath(new URL('../python/opcheck.py', import.meta.url))

interface PythonReport {
  readonly torch: string
  readonly ran: Readonly<Record<string, number>>
  readonly failures: readonly string[]
}

/** PyTorch judges our schemas and our shapes by its own means, in Python, on the library that is shipped. */
export const opcheck: Check = {
  name: 'opcheck',
  describe:
    "PyTorch's torch.library.opcheck (test_schema, test_faketensor) in Python on the shipped CPU library",
  options: [{ name: 'op', value: 'LIST', help: 'these ops only; all where nothing is said' }, pythonOption],
  async run(options) {
    const wanted = opsOption(options, 'op', cards.map(nameOf))
    use(cpu, { strict: true })
    const unsupported = cpu.unsupported ?? {}
    const supported = cards.filter((card) => unsupported[nameOf(card)] === undefined)
    const chosen = supported.filter((card) => wanted.includes(nameOf(card)))
    const python = await pythonOf(options)
    const scratch = mkdtempSync(join(tmpdir(), 'vllm-ops-opcheck-'))
    try {
      const task = {
        library: cpu.library,
        schemas: supported.map(({ schema }) => schema),
        faked: chosen.filter(({ schema }) => schema.includes('Tensor')).map(nameOf),
      }
      // One a line: all of them are more than a string can hold.
      const file = join(scratch, 'samples.jsonl')
      writeFileSync(file, `${JSON.stringify(task)}\n`)
      const leftOut: Record<string, string> = { ...unsupported }
      for (const card of chosen)
        for (const sample of samplesOf(card)) {
          if (sample.args.some(isTwiceEmpty)) leftOut[`${sample.op}, ${sample.name}`] = TWICE_EMPTY
          else appendFileSync(file, `${JSON.stringify(sample)}\n`)
        }
      say(`opcheck: ${chosen.length} ops`)
      return summarize(chosen.map(nameOf), leftOut, await runProgram(python, [script, file]))
    } finally {
      rmSync(scratch, { recursive: true })
    }
  },
}

const TWICE_EMPTY =
  'opcheck itself gives up on tensors with two sizes of 0, when it computes how much memory a copy takes (a negative size)'

function isTwiceEmpty(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || !('shape' in value)) return false
  return Array.isArray(value.shape) && value.shape.filter((size) => size === 0).length > 1
}

function summarize(
  names: readonly string[],
  leftOut: Readonly<Record<string, string>>,
  outcome: Outcome,
): Report {
  const result = resultOf<PythonReport>(outcome)
  if (!result) return reportOf({}, [endOf(outcome)])
  const { torch, ran, failures } = result
  const untried = names.filter((name) => !ran[name]).map((name) => `${name}: no sample ran`)
  const samples = Object.values(ran).reduce((sum, count) => sum + count, 0)
  return reportOf({ torch, ops: Object.keys(ran).length, samples, leftOut }, [...untried, ...failures])
}
