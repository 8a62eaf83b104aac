// SPDX-License-Identifier: Apache-2.0
//
// The conformance cases of one op, on every instruction set. What ends the process is the case after the one that was named last.
import { writeSync } from 'node:fs'
import { type FloatDType, floatDTypes } from '@vllm-ops/core'
import { runConformance } from '@vllm-ops/core/testing'
import cpu, { isa, isas, setIsa } from '@vllm-ops/cpu'
import { taskOf } from '../child'
import type { Guarded, GuardedTask } from '../guards'

const { op, placements, dtypes } = taskOf<GuardedTask>()
const passed = Object.fromEntries(placements.map((placement) => [placement, 0]))
const report = runConformance({
  backend: cpu,
  ops: [op],
  placements,
  dtypes: floatDTypes.filter((dtype): dtype is FloatDType => dtypes.length === 0 || dtypes.includes(dtype)),
  isas: { names: isas(), set: setIsa, current: isa },
  onResult({ group, name, problem }) {
    // Groups name the placement, but for the usual one.
    const placement = placements.find((candidate) => group.endsWith(candidate)) ?? placements[0] ?? ''
    if (problem === undefined) passed[placement] = (passed[placement] ?? 0) + 1
    writeSync(2, `after ${group}: ${name}\n`)
  },
})
const problems = report.failures.map(({ group, name, problem }) => `${group}: ${name}: ${problem}`)
const found: Guarded = { passed, problems: problems.slice(0, 20) }
process.stdout.write(`${JSON.stringify(found)}\n`)
