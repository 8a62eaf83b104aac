// SPDX-License-Identifier: Apache-2.0
import {
  type AnyCard,
  cards as allCards,
  type Backend,
  devices,
  empty,
  type FloatDType,
  floatDTypes,
  hasKernel,
  kernelKey,
  type OpArgument,
  torch,
  use,
} from '@vllm-ops/core'
import { NAMESPACE } from '@vllm-ops/core/internal'
import { type Call, CaseRunner, type PreparedCase } from './case-runner'
import type { Placement } from './guarded'

/** What the suite needs of a test framework; vitest's functions of these names do. */
export interface TestFramework {
  describe(name: string, body: () => void): unknown
  it(name: string, body: () => void): unknown
  beforeAll(body: () => void): unknown
  afterAll(body: () => void): unknown
}

/** How a backend that has kernels for several instruction sets is told which to use. */
export interface InstructionSets {
  readonly names: readonly string[]
  /** Uses this one from now on. */
  set(name: string): void
  /** The one in use. */
  current(): string
}

export interface ConformanceOptions extends TestFramework {
  readonly backend: Backend
  /** Where the tensors live; `cpu` where nothing is said. */
  readonly device?: string
  readonly isas?: InstructionSets
  /** Only these ops. */
  readonly ops?: readonly string[]
  /** Where the tensors' memory lies, one after the other: amid canaries where nothing is said. */
  readonly placements?: readonly Placement[]
  /** Only these dtypes. */
  readonly dtypes?: readonly FloatDType[]
  /** Only each so-manieth case of a card, from the first on: for tools that make calls very slow. */
  readonly every?: number
}

const AS_IT_IS: InstructionSets = { names: [''], set() {}, current: () => '' }

/**
 * Declares the tests that every backend has to pass: for each op and dtype, all cases of its card, on each instruction set.
 *
 * A case passes if the result is within the card's tolerance of the reference in float64 (computed from the same, rounded inputs),
 * no byte around the tensors or in their gaps has changed, nor any tensor that the schema doesn't mark as written. Calls that must
 * be refused pass if they throw an ArgumentError that names the op and the argument, and nothing has changed at all.
 *
 * An op that the backend lists as unsupported has to fail: one that passes is to be taken off the list. A kernel that isn't the
 * backend's own, or another instruction set than the one asked for, is a failure too.
 */
export function conformance(options: ConformanceOptions): void {
  const { backend, device = 'cpu', isas = AS_IT_IS, ops, dtypes = floatDTypes } = options
  const { describe, it, beforeAll } = options
  const cards = allCards.filter(({ schema }) => !ops || ops.includes(nameOf(schema)))
  if (cards.length === 0 || dtypes.length === 0 || isas.names.length === 0)
    throw new RangeError('a conformance suite without an op, a dtype or an instruction set tests nothing')
  describe(`${backend.name} on ${device}`, () => {
    beforeAll(() => {
      use(backend, { strict: true })
    })
    for (const card of cards) {
      const name = nameOf(card.schema)
      const reason = backend.unsupported?.[name]
      describe(name, () => {
        if (reason === undefined) declare(card, { ...options, device, isas, dtypes })
        else
          it(`is not supported: ${reason}`, () =>
            expectUnsupported(card, reason, { ...options, device, isas, dtypes }))
      })
    }
  })
}

type Resolved = ConformanceOptions & Required<Pick<ConformanceOptions, 'device' | 'isas' | 'dtypes'>>

function declare(card: AnyCard, options: Resolved): void {
  const { backend, device, placements = ['amid'], isas, dtypes, every = 1, describe, it, afterAll } = options
  const runner = new CaseRunner(card, device)
  const opName = `${NAMESPACE}::${runner.schema.name}`
  const call = callOf(runner.schema.name)
  const key = kernelKey(backend, card.schema)
  const own = (isa: string, test: () => readonly string[]) => () => {
    if (!hasKernel(opName, key)) throw new Error(`${opName} has no ${key} kernel`)
    if (isas.current() !== isa) isas.set(isa)
    const problems = test()
    if (isas.current() !== isa) throw new Error(`ran on ${isas.current()}, asked for ${isa}`)
    if (problems.length > 0) throw new Error(`${opName}: ${problems.join('\n')}`)
  }
  for (const dtype of dtypes) {
    const prepared = new Map<string, PreparedCase>()
    afterAll(() => prepared.clear())
    const [first = ''] = isas.names
    for (const isa of isas.names)
      for (const placement of placements)
        describe(groupOf(dtype, isa, placement), () => {
          for (const testCase of thinned(card.cases(dtype), every)) {
            const test = () => {
              const ready = prepared.get(testCase.name) ?? runner.prepare(testCase, dtype)
              prepared.set(testCase.name, ready)
              return runner.run(ready, call, placement)
            }
            it(testCase.name, own(isa, test))
          }
        })
    for (const placement of placements)
      describe(groupOf(`${dtype}, refuses`, '', placement), () => {
        for (const rejection of thinned(card.rejects(dtype), every))
          it(
            rejection.name,
            own(first, () => runner.reject(rejection, dtype, call, placement)),
          )
      })
  }
  const [dtype] = dtypes
  const [good] = dtype ? card.cases(dtype) : []
  if (good) it('refuses values of wrong types', () => failOn(opName, runner.rejectTypes(good, call)))
  if (good && device !== 'cpu')
    it('refuses tensors of other devices', () => {
      const here = empty([0], { device }).device
      const [type] = here.split(':')
      const others = devices().filter((other) => other.type === type && other.device !== here)
      const elsewhere = ['cpu', ...others.slice(0, 1).map(({ device }) => device)]
      failOn(opName, runner.rejectDevices(good, elsewhere, call))
    })
}

/** What tests have in common: their dtype, the instruction set where there are several, the placement where it is another than usual. */
function groupOf(what: string, isa: string, placement: Placement): string {
  return [what, isa, placement === 'amid' ? '' : placement].filter(Boolean).join(', ')
}

/** Each `every`-th of some, from the first on. */
function* thinned<T>(all: Iterable<T>, every: number): Generator<T> {
  let index = 0
  for (const one of all) if (index++ % every === 0) yield one
}

/** Throws what is wrong with any of several calls. */
function failOn(opName: string, calls: Iterable<readonly [string, readonly string[]]>): void {
  const problems = Array.from(calls, ([what, found]) => found.map((problem) => `${what}: ${problem}`)).flat()
  if (problems.length > 0) throw new Error(`${opName}:\n${problems.join('\n')}`)
}

/** Throws if every case passes after all. */
function expectUnsupported(card: AnyCard, reason: string, options: Resolved): void {
  const { backend, device, isas, dtypes } = options
  const runner = new CaseRunner(card, device)
  const opName = `${NAMESPACE}::${runner.schema.name}`
  if (!hasKernel(opName, kernelKey(backend, card.schema))) return
  const call = callOf(runner.schema.name)
  for (const isa of isas.names) {
    isas.set(isa)
    for (const dtype of dtypes)
      for (const testCase of card.cases(dtype))
        if (runner.run(runner.prepare(testCase, dtype), call).length > 0) return
  }
  throw new Error(
    `${backend.name} lists ${opName} as unsupported (${reason}), but all cases pass: take it off the list`,
  )
}

function callOf(name: string): Call {
  return (...args: OpArgument[]) => torch[NAMESPACE]?.[name]?.(...args)
}

function nameOf(schema: string): string {
  return schema.slice(0, schema.indexOf('('))
}
