// SPDX-License-Identifier: Apache-2.0
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

/** An argument of a row: a tensor of ones of a shape, or the value itself. */
export type RowArgument = { readonly tensor: readonly number[] } | number | boolean | null

/** A call to measure. */
export interface Row {
  readonly name: string
  /** The op with its overload. */
  readonly op: string
  readonly args: readonly RowArgument[]
  /** The most that a call from JavaScript may cost, in ns. */
  readonly target?: number
}

const two = [{ tensor: [1, 8] }, { tensor: [1, 16] }] as const

/** The first is the product's case; the others show what a part of it costs. */
const rows: readonly Row[] = [
  { name: 'in place, two tensors, stable ABI', op: 'vllm_ops::silu_and_mul', args: two, target: 250 },
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
  readonly loop: (calls: number) => void
  readonly boxed: number[]
  readonly javascript: number[]
}

function prepare(row: Row): Call {
  const overload = overloadOf(row.op)
  const args = row.args.map((arg) => (arg !== null && typeof arg === 'object' ? ones(arg.tensor) : arg))
  return { row, overload, args, loop: loopOf(overload, args), boxed: [], javascript: [] }
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
function loopOf(overload: OpOverload, args: readonly OpArgument[]): (calls: number) => void {
  const makesTensor = newTensor(overload(...args), args)
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
    }
  }
  setNumThreads(threads)
  const python = measurePython(rows, { calls, rounds, nothing: nothingLibrary() })
  const crossings = { none: summarize(bare.none), three: summarize(bare.three) }
  const results = all.map(({ row, boxed, javascript }) => ({
    ...row,
    boxed: summarize(boxed),
    javascript: summarize(javascript),
    python: python?.ns[row.name],
  }))
  print(results, crossings, python)
  return { unit: 'ns per call', crossings, rows: results, python: python && { torch: python.torch } }
}

interface Result extends Row {
  readonly boxed: Summary
  readonly javascript: Summary
  readonly python: number | undefined
}

function print(
  results: readonly Result[],
  crossings: { none: Summary; three: Summary },
  python: PythonResult | undefined,
): void {
  const lines = results.map(({ name, boxed, javascript, python: inPython, target }) => [
    name,
    number(boxed.median),
    number(javascript.median),
    number(javascript.least),
    number(javascript.median / boxed.median),
    number(inPython),
    number(inPython === undefined ? undefined : inPython / javascript.median),
    target === undefined ? '' : `≤ ${target}: ${javascript.median <= target ? 'met' : 'missed'}`,
  ])
  const header = [
    'ns per call, median',
    'C++ boxed',
    'JavaScript',
    'least',
    'JS / C++',
    'Python',
    'Python / JS',
    'target',
  ]
  process.stdout.write(table(header, lines))
  process.stdout.write(
    `\nA Node-API call alone: ${number(crossings.none.median)} ns without arguments, ${number(crossings.three.median)} ns with three numbers.\n`,
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
    { name: 'calls', value: 'N', help: 'calls of each row per round', fallback: '100000' },
    { name: 'rounds', value: 'N', help: 'rounds, the rows in turn in each', fallback: '15' },
  ],
  run,
}
