// SPDX-License-Identifier: Apache-2.0
import {
  type AnyCard,
  type AnyCase,
  type AnyRejection,
  ArgumentError,
  type CaseValue,
  type DType,
  empty,
  evaluate,
  type FloatDType,
  floatDTypes,
  fromTypedArray,
  getNumThreads,
  isWrite,
  type OpArgument,
  parseSchema,
  type Schema,
  scope,
  setNumThreads,
  Tensor,
  type TensorSpec,
} from '@vllm-ops/core'
import { compare } from './compare'
import { GuardedMemory, type GuardedTensor, valuesOf } from './guarded'
import { SeededRandom } from './random'

/** Calls the op under test. */
export type Call = (...args: OpArgument[]) => unknown

function isSpec(value: CaseValue | undefined): value is TensorSpec {
  return typeof value === 'object' && value !== null
}

function isKernelFloat(dtype: string): dtype is FloatDType {
  return floatDTypes.some((known) => known === dtype)
}

function isFloat(dtype: string): boolean {
  return dtype === 'float64' || isKernelFloat(dtype)
}

/** The cases of one op on one device: their data, what is expected, and whether a kernel delivers it. */
export class CaseRunner {
  readonly schema: Schema
  private readonly names: readonly string[]
  private readonly written: ReadonlySet<string>

  constructor(
    readonly card: AnyCard,
    private readonly device: string,
  ) {
    this.schema = parseSchema(card.schema)
    this.names = this.schema.arguments.map(({ name }) => name)
    this.written = new Set(this.schema.arguments.filter(isWrite).map(({ name }) => name))
  }

  /** The data of a case and, from the reference in float64, the results. */
  prepare(testCase: AnyCase, dtype: FloatDType): PreparedCase {
    const { args } = testCase
    const memories = this.memories(args, `${this.schema.name}, ${dtype}, ${testCase.name}`)
    return onOneThread(() => {
      const exactArgs = this.names.map((name) => exactValue(args[name] ?? null, memories.get(name)))
      const returned = tensorsOf(evaluate(this.card, exactArgs)).map(valuesOf)
      const outputs = new Map<string, Float64Array>()
      for (const [i, name] of this.names.entries()) {
        const arg = exactArgs[i]
        if (this.written.has(name) && arg instanceof Tensor) outputs.set(name, valuesOf(arg))
      }
      // The reference on a fake device tells the shape and dtype of what is returned.
      const fakes = this.names.map((name) => fakeValue(args[name] ?? null))
      const types = tensorsOf(evaluate(this.card, fakes)).map(({ dtype, shape }) => ({ dtype, shape }))
      return { testCase, dtype, memories, outputs, returned, types }
    })
  }

  /** What makes the arguments of a case on the device: the same ones each time, which the caller frees (`scope`). */
  maker(testCase: AnyCase, dtype: FloatDType): () => CaseArguments {
    const memories = this.memories(testCase.args, `${this.schema.name}, ${dtype}, ${testCase.name}`)
    return () => {
      const guarded = this.allocate(memories)
      return { args: this.arguments(testCase.args, guarded), guarded }
    }
  }

  /** Runs a case; says everything that is wrong. */
  run(prepared: PreparedCase, call: Call): string[] {
    return scope(() => {
      const { testCase, memories } = prepared
      const guarded = this.allocate(memories)
      const args = this.arguments(testCase.args, guarded)
      let results: Tensor[]
      try {
        results = tensorsOf(call(...args))
      } catch (error) {
        const refusable =
          testCase.mayRefuse !== undefined &&
          blames(error, this.schema.name, testCase.mayRefuse) === undefined
        return refusable ? this.damage(guarded, new Set()) : [`threw ${error}`]
      }
      return [...this.damage(guarded, this.written), ...this.differences(prepared, guarded, results)]
    })
  }

  /** Runs a call that must be refused; says everything that is wrong. */
  reject({ name, args, argument }: AnyRejection, dtype: FloatDType, call: Call): string[] {
    return scope(() => {
      const guarded = this.allocate(this.memories(args, `${this.schema.name}, ${dtype}, ${name}`))
      return this.rejectValues(this.arguments(args, guarded), guarded, argument, call)
    })
  }

  /**
   * Calls of a wrong number of arguments or with a value of a wrong type, made from a right call: `[what is wrong, problems]` each.
   * They concern the way from JavaScript into the dispatcher, so one case is enough.
   */
  *rejectTypes(testCase: AnyCase, call: Call): Generator<readonly [string, readonly string[]]> {
    const memories = this.memories(testCase.args, this.schema.name)
    const attempt = (argument: string, change: (args: OpArgument[]) => OpArgument[]) =>
      scope(() => {
        const guarded = this.allocate(memories)
        return this.rejectValues(change(this.arguments(testCase.args, guarded)), guarded, argument, call)
      })
    const last = this.schema.arguments.at(-1)
    yield ['no arguments', attempt(this.names[0] ?? '', () => [])]
    // An optional one at the end may be left out.
    if (last && last.type.kind !== 'optional')
      yield ['an argument too few', attempt(last.name, (args) => args.slice(0, -1))]
    yield ['an argument too many', attempt('', (args) => [...args, 1])]
    for (const [i, { name, type }] of this.schema.arguments.entries()) {
      const base = type.kind === 'optional' ? type.element : type
      const wrong = [...(WRONG_VALUES[base.kind === 'base' ? base.name : 'list'] ?? [])]
      if (type.kind !== 'optional') wrong.push(null)
      for (const value of wrong)
        yield [`${name} is ${String(value)}`, attempt(name, (args) => args.with(i, value))]
      if (base.kind === 'base' && base.name === 'Tensor')
        yield [`${name} is disposed`, attempt(name, (args) => args.with(i, disposed()))]
    }
  }

  private rejectValues(
    args: OpArgument[],
    guarded: ReadonlyMap<string, GuardedTensor>,
    argument: string | readonly string[],
    call: Call,
  ): string[] {
    try {
      call(...args)
    } catch (error) {
      const complaint = blames(error, this.schema.name, argument)
      return [...(complaint === undefined ? [] : [complaint]), ...this.damage(guarded, new Set())]
    }
    return [
      `returned; expected an ArgumentError for ${[argument].flat().join(' or ') || 'the number of arguments'}`,
    ]
  }

  private memories(args: AnyCase['args'], seed: string): Map<string, GuardedMemory> {
    const random = new SeededRandom(seed)
    const memories = new Map<string, GuardedMemory>()
    for (const name of this.names) {
      const value = args[name]
      if (isSpec(value)) memories.set(name, new GuardedMemory(value, random))
    }
    return memories
  }

  private allocate(memories: ReadonlyMap<string, GuardedMemory>): Map<string, GuardedTensor> {
    return new Map(Array.from(memories, ([name, memory]) => [name, memory.allocate(this.device)]))
  }

  private arguments(args: AnyCase['args'], guarded: ReadonlyMap<string, GuardedTensor>): OpArgument[] {
    return this.names.map((name) => {
      const value = args[name] ?? null
      return isSpec(value) ? (guarded.get(name)?.tensor ?? null) : value
    })
  }

  /** What was written that may not be. */
  private damage(guarded: ReadonlyMap<string, GuardedTensor>, written: ReadonlySet<string>): string[] {
    return Array.from(guarded, ([name, tensor]) => {
      const problem = tensor.check(written.has(name))
      return problem === undefined ? [] : [`'${name}': ${problem}`]
    }).flat()
  }

  private differences(
    { outputs, returned, types, testCase, dtype }: PreparedCase,
    guarded: ReadonlyMap<string, GuardedTensor>,
    results: readonly Tensor[],
  ): string[] {
    const { tolerance, exact = [], scratch = [] } = this.card
    const problems: string[] = []
    for (const [name, expected] of outputs) {
      if (scratch.includes(name)) continue
      const output = guarded.get(name)
      const spec = testCase.args[name]
      if (!output || !isSpec(spec)) continue
      const type = isKernelFloat(spec.dtype) ? spec.dtype : dtype
      const criterion = exact.includes(name) ? 'nearest' : tolerance[type]
      const problem = compare(output.values(), expected, spec.shape, type, criterion)
      if (problem !== undefined) problems.push(`'${name}'${problem}`)
    }
    if (results.length !== returned.length)
      problems.push(`returned ${results.length} tensors, expected ${returned.length}`)
    for (const [i, result] of results.entries()) {
      const type = types[i]
      const expected = returned[i]
      if (!type || !expected) continue
      const want = `${type.dtype}[${type.shape.join(', ')}] on ${this.device}`
      const got = `${result.dtype}[${result.shape.join(', ')}] on ${result.device}`
      const problem =
        want !== got
          ? ` is ${got}, expected ${want}`
          : isKernelFloat(type.dtype)
            ? compare(valuesOf(result), expected, type.shape, type.dtype, tolerance[type.dtype])
            : undefined
      if (problem !== undefined) problems.push(`result ${i}${problem}`)
    }
    return problems
  }
}

/** The arguments of a call, and the tensors among them by their arguments' names. */
export interface CaseArguments {
  readonly args: OpArgument[]
  readonly guarded: ReadonlyMap<string, GuardedTensor>
}

/** A case ready to run, as often as there are kernels. */
export interface PreparedCase {
  readonly testCase: AnyCase
  readonly dtype: FloatDType
  readonly memories: ReadonlyMap<string, GuardedMemory>
  /** The exact value of each written argument. */
  readonly outputs: ReadonlyMap<string, Float64Array>
  /** The exact value of each returned tensor, and what it is. */
  readonly returned: readonly Float64Array[]
  readonly types: readonly { readonly dtype: DType; readonly shape: readonly number[] }[]
}

/** Runs the reference: the order of its sums doesn't depend on the machine then, and small ops are faster so. */
function onOneThread<T>(fn: () => T): T {
  const threads = getNumThreads()
  setNumThreads(1)
  try {
    return scope(fn)
  } finally {
    setNumThreads(threads)
  }
}

/** Values of a wrong type for each base type of a schema. */
const WRONG_VALUES: Readonly<Record<string, readonly OpArgument[]>> = {
  Tensor: [3, 'tensor', true],
  int: [1.5, 'one', true, Number.NaN],
  SymInt: [1.5, 'one', true, Number.NaN],
  float: ['one', true],
  bool: ['true'],
  str: [1, false],
  ScalarType: ['float31'],
}

function disposed(): Tensor {
  const tensor = empty([1])
  tensor.dispose()
  return tensor
}

/** What is wrong with an error that should blame one of these arguments; nothing if all is right. */
function blames(error: unknown, op: string, argument: string | readonly string[]): string | undefined {
  const wanted = [argument].flat()
  if (!(error instanceof ArgumentError))
    return `threw ${error}; expected an ArgumentError for ${wanted.join(' or ')}`
  if (error.op.split('::')[1] !== op) return `blamed the op ${error.op}: ${error.message}`
  if (!wanted.includes(error.argument))
    return `blamed the argument '${error.argument}', expected ${wanted.join(' or ')}: ${error.message}`
  return error.expected === '' || error.received === '' ? `said too little: ${error.message}` : undefined
}

function tensorsOf(result: unknown): Tensor[] {
  return [result].flat().filter((value) => value instanceof Tensor)
}

/** An argument for the reference: floats widened to float64, the rest as it is. */
function exactValue(value: CaseValue, memory: GuardedMemory | undefined): OpArgument {
  if (typeof value === 'string' && isFloat(value)) return 'float64'
  if (!isSpec(value) || !memory) return isSpec(value) ? null : value
  const wide = fromTypedArray(memory.values.slice(), value.shape)
  return isFloat(value.dtype) ? wide : wide.to(value.dtype)
}

/** An argument without data. */
function fakeValue(value: CaseValue): OpArgument {
  return isSpec(value) ? empty(value.shape, { dtype: value.dtype, device: 'meta' }) : value
}
