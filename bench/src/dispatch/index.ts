// SPDX-License-Identifier: Apache-2.0
import { getHeapStatistics } from 'node:v8'
import {
  getNumThreads,
  loadLibrary,
  type OpArgument,
  type OpOverload,
  ones,
  setNumThreads,
  Tensor,
  torch,
} from '@vllm-ops/core'
import { native, prepareCall } from '@vllm-ops/core/internal'
import { type Benchmark, countOption, type OptionValues } from '../benchmark'
import { type Summary, summarize } from '../statistics'
import { number, table } from '../table'
import { nothingLibrary } from './nothing'
import { measurePython, type PythonResult } from './python'
import { type Figures, targetsOf } from './targets'

/** An argument of a row: a tensor of ones of a shape, or the value itself. */
export type RowArgument = { readonly tensor: readonly number[] } | number | boolean | null

/** A call to measure. */
export interface Row {
  readonly name: string
  /** The op with its overload. */
  readonly op: string
  readonly args: readonly RowArgument[]
}

const two = [{ tensor: [1, 8] }, { tensor: [1, 16] }] as const

/** The first is the product's case; the others show what a part of it costs. */
const rows: readonly Row[] = [
  { name: 'in place, two tensors, stable ABI', op: 'vllm_ops::silu_and_mul', args: two },
  { name: 'nothing, two tensors', op: 'vllm_ops_bench::two_tensors', args: two },
  {
    name: 'nothing, seven arguments',
    op: 'vllm_ops_bench::seven_arguments',
    args: [...two, { tensor: [8] }, null, 128, 1e-5, true],
  },
  { name: 'returns its input', op: 'vllm_ops_bench::returns_input', args: [{ tensor: [1] }] },
  { name: 'returns a new tensor', op: 'vllm_ops_bench::returns_new', args: [{ tensor: [1] }] },
  { name: 'aten::add of one element', op: 'aten::add.Tensor', args: [{ tensor: [1] }, { tensor: [1] }] },
]

/** A row, ready to be called. */
interface Call {
  readonly row: Row
  readonly overload: OpOverload
  readonly args: readonly OpArgument[]
  /** The call makes a tensor, which the loop disposes. */
  readonly makesTensor: boolean
  readonly loop: (calls: number) => void
  readonly boxed: number[]
  readonly javascript: number[]
  readonly heap: number[]
}

function prepare(row: Row): Call {
  const overload = overloadOf(row.op)
  const args = row.args.map((arg) => (arg !== null && typeof arg === 'object' ? ones(arg.tensor) : arg))
  const makesTensor = newTensor(overload(...args), args)
  const loop = loopOf(overload, args, makesTensor)
  return { row, overload, args, makesTensor, loop, boxed: [], javascript: [], heap: [] }
}

function overloadOf(fullName: string): OpOverload {
  const [namespace = '', rest = ''] = fullName.split('::')
  const [op = '', overload = 'default'] = rest.split('.')
  const found = torch[namespace]?.[op]?.[overload]
  if (!found) throw new Error(`no op ${fullName}`)
  return found
}

/**
 * A loop of calls as a user writes it, with the arguments spelled out. Each has a function of its own: the engine then knows what is
 * called, as it does in a program that calls an op at one place.
 */
function loopOf(
  overload: OpOverload,
  args: readonly OpArgument[],
  makesTensor: boolean,
): (calls: number) => void {
  const list = args.map((_, i) => `a${i}`).join(', ')
  const call = makesTensor ? `op(${list}).dispose()` : `op(${list})`
  const make = new Function(
    'op',
    ...args.map((_, i) => `a${i}`),
    `return (calls) => { for (let i = 0; i < calls; i++) ${call} }`,
  )
  return make(overload, ...args)
}

/** Whether a result is a tensor that the call made; frees it. */
function newTensor(result: unknown, args: readonly OpArgument[]): boolean {
  if (!(result instanceof Tensor) || args.includes(result)) return false
  result.dispose()
  return true
}

/** ns per call of the node addon's function that does nothing. */
function crossing(call: () => void, calls: number): number {
  const start = process.hrtime.bigint()
  for (let i = 0; i < calls; i++) call()
  return Number(process.hrtime.bigint() - start) / calls
}

/** Bytes that the JavaScript heap grew by, per call; nothing where the collector ran meanwhile. */
function heapGrowth(loop: (calls: number) => void, calls: number): number[] {
  const before = getHeapStatistics().used_heap_size
  loop(calls)
  const grown = getHeapStatistics().used_heap_size - before
  return grown < 0 ? [] : [grown / calls]
}

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const calls = countOption(options, 'calls')
  const rounds = countOption(options, 'rounds')
  const addon = native()
  loadLibrary(nothingLibrary())
  const threads = getNumThreads()
  setNumThreads(1)
  const all = rows.map(prepare)
  const bare = { none: [] as number[], three: [] as number[] }
  const crossNone = () => addon.nop()
  const crossThree = () => addon.crossing(1, 2, 3)
  // One round is not counted: the engine compiles in it.
  for (let round = -1; round < rounds; round++) {
    const none = crossing(crossNone, calls)
    const three = crossing(crossThree, calls)
    if (round >= 0) bare.none.push(none)
    if (round >= 0) bare.three.push(three)
    for (const call of all) {
      prepareCall(call.overload, call.args)
      const boxed = addon.benchBoxedCall(calls)
      const start = process.hrtime.bigint()
      call.loop(calls)
      const javascript = Number(process.hrtime.bigint() - start) / calls
      if (round >= 0) call.boxed.push(boxed)
      if (round >= 0) call.javascript.push(javascript)
      if (round >= 0) call.heap.push(...heapGrowth(call.loop, calls))
    }
  }
  setNumThreads(threads)
  const python = measurePython(rows, { calls, rounds, nothing: nothingLibrary() })
  const crossings = { none: summarize(bare.none), three: summarize(bare.three) }
  const results = all.map(({ row, makesTensor, boxed, javascript, heap }) => {
    const figures: Figures = {
      makesTensor,
      boxed: summarize(boxed),
      javascript: summarize(javascript),
      python: python?.ns[row.name],
      heap: Math.min(...heap),
    }
    return { ...row, ...figures, targets: targetsOf(figures) }
  })
  print(results, crossings, python)
  return { unit: 'ns per call', crossings, rows: results, python: python && { torch: python.torch } }
}

interface Result extends Row, Figures {
  readonly targets: ReturnType<typeof targetsOf>
}

function print(
  results: readonly Result[],
  crossings: { none: Summary; three: Summary },
  python: PythonResult | undefined,
): void {
  const lines = results.map(({ name, boxed, javascript, heap, python: inPython, targets }) => [
    name,
    number(boxed.least),
    number(javascript.least),
    number(javascript.median),
    number(heap),
    number(inPython?.least),
    number(inPython && inPython.least / javascript.least),
    targets
      .map(
        ({ what, most, met }) =>
          `${what}${what === 'no heap' ? '' : ` = ${number(most)}`}: ${met ? 'met' : 'missed'}`,
      )
      .join(', '),
  ])
  const header = [
    'ns per call, least of all rounds',
    'C++ boxed',
    'JavaScript',
    'median',
    'heap bytes',
    'Python',
    'Python / JS',
    'at most',
  ]
  process.stdout.write(table(header, lines))
  process.stdout.write(
    `\nA Node-API call alone: ${number(crossings.none.least)} ns without arguments, ${number(crossings.three.least)} ns with three numbers.\n`,
  )
  process.stdout.write(
    python
      ? `Python: torch.ops of torch ${python.torch}.\n`
      : 'Python: no torch there (PYTHON names the interpreter).\n',
  )
}

/** The cost of one call through the dispatcher. */
export const dispatch: Benchmark = {
  name: 'dispatch',
  title: 'A call of an op from JavaScript, beside the same boxed call in a C++ loop and from Python',
  options: [
    { name: 'calls', value: 'N', help: 'calls of each row per round', fallback: '20000' },
    { name: 'rounds', value: 'N', help: 'rounds, the rows in turn in each', fallback: '50' },
  ],
  run,
}
