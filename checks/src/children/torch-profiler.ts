// SPDX-License-Identifier: Apache-2.0
//
// Runs a program of aten ops under a profile and prints what was seen of them.
import { ones, profile, scope, setNumThreads, type Tensor, torch } from '@vllm-ops/core'
import { taskOf } from '../child'
import type { ProgramTask, Seen, SeenOps } from '../torch-profiler'

const { inputs, steps, repeat } = taskOf<ProgramTask>()
setNumThreads(1)
const made = Object.fromEntries(Object.entries(inputs).map(([name, sizes]) => [name, ones([...sizes])]))

function run(): void {
  scope(() => {
    const values: Record<string, Tensor> = { ...made }
    const argument = (value: unknown): unknown =>
      typeof value === 'string' ? values[value] : Array.isArray(value) ? value.map(argument) : value
    for (const { result, op, overload, args } of steps)
      values[result] = torch.aten[op]![overload]!(...(args.map(argument) as Tensor[]))
  })
}

for (let i = 0; i < repeat; i++) run()
const { record } = await profile(() => {
  for (let i = 0; i < repeat; i++) run()
})
const ops: Record<string, Seen> = {}
// The longest first: calls at several places are told by the place where most of the time went.
const rows = record.phases[0]!.rows.filter(({ kind }) => kind === 'op')
for (const { name, shapes, calls, p50_us } of rows.sort((a, b) => b.calls - a.calls)) {
  const key = JSON.stringify([name, shapes])
  const known = ops[key]
  ops[key] = { calls: (known?.calls ?? 0) + calls, medianUs: known?.medianUs ?? p50_us }
}
const seen: SeenOps = { torch: record.environment.torch, ops }
process.stdout.write(`${JSON.stringify(seen)}\n`)
