// SPDX-License-Identifier: Apache-2.0
// The same program under Python's torch.profiler: fixtures/profiler/torch_profiler.py, whose output is stored beside it.
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ones, profile, torch, zeros } from '../src/index'
import { native } from '../src/native'

interface Recorded {
  torch: string
  machine: string
  counts: Record<string, number>
}

const python: Recorded = JSON.parse(
  readFileSync(new URL('fixtures/profiler/torch_profiler.json', import.meta.url), 'utf8'),
)

function program(): void {
  const { aten } = torch
  const weight = ones([16, 8])
  const bias = zeros([16])
  for (const rows of [1, 2, 5]) {
    const x = ones([rows, 8])
    const logits = aten!.linear!(x, weight, bias)
    const y = aten!.softmax!.int!(logits, 1)
    const z = aten!.add!.Tensor!(aten!.layer_norm!(aten!.matmul!(y, weight), [8]), x)
    aten!.cat!([z, x], 1)
    aten!.sum!(z)
  }
}

/** What Python's factories call inside, and ours don't: how tensors are made is no part of the comparison. */
const FACTORIES = ['aten::ones', 'aten::zeros', 'aten::fill_', 'aten::zero_', 'aten::empty']

describe("the same program under Python's profiler", () => {
  it.each(['events', 'tables'] as const)('has the same ops, counts and shapes (%s)', async (record) => {
    // Which ops run inside of others differs between releases and machines.
    const same =
      native().torchVersion === python.torch && process.arch === 'x64' && python.machine === 'x86_64'
    program()
    const { record: made } = await profile(program, { record })
    const counts: Record<string, number> = {}
    for (const { kind, name, shapes, calls } of made.phases[0]!.rows) {
      if (kind !== 'op') continue
      const key = JSON.stringify([name, shapes])
      counts[key] = (counts[key] ?? 0) + calls
    }
    const compared = (all: Record<string, number>) =>
      Object.entries(all)
        .filter(([key]) => !FACTORIES.includes(JSON.parse(key)[0]))
        .sort(([a], [b]) => (a < b ? -1 : 1))
    const [ours, theirs] = [compared(counts), compared(python.counts)]
    expect(theirs.length).toBeGreaterThan(20)
    // On another torch the outer ops are the same still.
    const outer = ([key]: [string, number]) =>
      /^\["aten::(linear|softmax|matmul|layer_norm|cat|sum)"/.test(key)
    expect(same ? ours : ours.filter(outer)).toEqual(same ? theirs : theirs.filter(outer))
  })
})
