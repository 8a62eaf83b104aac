// SPDX-License-Identifier: Apache-2.0
//
// Runs of the conformance suite without a test framework: that they find what is wrong, and count right.
import { beforeAll, describe, expect, it } from 'vitest'
import {
  type Backend,
  cards,
  checkArguments,
  empty,
  evaluate,
  keep,
  Library,
  type OpArgument,
  setNumThreads,
  Tensor,
  torch,
} from '../src/index'
import { NAMESPACE } from '../src/internal'
import {
  CaseRunner,
  type ConformanceReport,
  countMemory,
  type RunOptions,
  repeatCases,
  runConformance,
} from '../src/testing'

const OP = 'silu_and_mul'
const card = cards.find(({ schema }) => schema.startsWith(`${OP}(`)) ?? expect.fail(`no card of ${OP}`)

// The kernel here is made of many small ops, which several threads only slow down.
beforeAll(() => setNumThreads(1))

let backends = 0

/** Runs `what` on a backend whose one kernel is right, and then does something more. */
function tryOut(
  what: (options: RunOptions) => ConformanceReport,
  more: (out: Tensor) => void = () => {},
): ConformanceReport {
  using library = new Library(NAMESPACE, 'IMPL')
  const names = cards.map(({ schema }) => schema.slice(0, schema.indexOf('(')))
  const backend: Backend = {
    name: `steady ${++backends}`,
    dispatchKey: 'CPU',
    version: '0.0.0',
    unsupported: Object.fromEntries(
      names.filter((name) => name !== OP).map((name) => [name, 'not on trial']),
    ),
    register() {
      library.impl(
        OP,
        (...args: OpArgument[]) => {
          evaluate(card, args)
          if (args[0] instanceof Tensor) more(args[0])
          return null
        },
        'CPU',
      )
    },
  }
  return what({ backend, ops: [OP], dtypes: ['float32'] })
}

describe('a run without a test framework', () => {
  it('counts by op and group, and keeps what failed', () => {
    const seen: string[] = []
    const { passed, failed, ops, failures, device } = tryOut((options) =>
      runConformance({ ...options, onResult: ({ name }) => seen.push(name) }),
    )
    // The kernel has no checks: it refuses nothing.
    expect(ops[OP]?.float32?.passed).toBe(ops[OP]?.float32?.of)
    expect(failures.map(({ op, group }) => `${op}, ${group}`)).toContain(`${OP}, float32, refuses`)
    expect(failed).toBe(failures.length)
    expect(seen.length).toBe(passed + failed)
    expect(device).toBe('cpu')
  })
})

describe('a tensor on another device than the rest', () => {
  const [good] = card.cases('float32')
  const attempts = (call: (...args: OpArgument[]) => unknown) =>
    new Map(new CaseRunner(card, 'cpu').rejectDevices(good ?? expect.fail('no case'), ['meta'], call))
  const names = ['out on meta', 'input on meta', 'the right call afterwards']

  it('is refused by name, and the right call works afterwards', () => {
    const right = (...args: OpArgument[]) => checkArguments(card, args)
    expect(attempts(right)).toEqual(new Map(names.map((name) => [name, []])))
  })

  it('is noticed where it is not refused, and where nothing works afterwards', () => {
    const found = attempts(() => {})
    expect(found.get('out on meta')?.[0]).toMatch(/^returned; expected an ArgumentError for out or input/)
    let calls = 0
    const breaks = (...args: OpArgument[]) => {
      if (++calls > 2) throw new Error('device lost')
      checkArguments(card, args)
    }
    expect(attempts(breaks).get('the right call afterwards')).toEqual(['threw Error: device lost'])
  })
})

describe('repeated cases', () => {
  const repeat = (options: RunOptions) => repeatCases({ ...options, times: 3 })

  it('pass where every run has the same bits', () => {
    const { passed, failed } = tryOut(repeat)
    expect(failed).toBe(0)
    expect(passed).toBeGreaterThan(20)
  })

  it('fail where a later one has others', () => {
    let runs = 0
    const { failures } = tryOut(repeat, (out) => {
      if (out.numel > 0 && ++runs % 3 === 0) torch.aten.mul_!(out, 1 + 2 ** -20)
    })
    expect(failures.length).toBeGreaterThan(20)
    expect(failures[0]?.problem).toBe("'out' has other bits in run 3 than in the first")
  })
})

describe('many calls', () => {
  const count = (options: RunOptions) => countMemory({ ...options, calls: 50 })

  it('pass where nothing is kept', () => {
    expect(tryOut(count)).toMatchObject({
      passed: 1,
      failed: 0,
      ops: { [OP]: { float32: { passed: 1, of: 1 } } },
    })
  })

  it('fail where a call keeps memory', () => {
    const kept: Tensor[] = []
    const { failures } = tryOut(count, () => {
      kept.push(keep(empty([4])))
    })
    expect(failures[0]?.problem).toMatch(/bytes were allocated before 50 calls/)
    for (const tensor of kept) tensor.dispose()
  })
})
