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
import { GuardedMemory, type GuardedTensor, type Placement, valuesOf } from './guarded'
import { SeededRandom } from './random'

/** Calls the op under test. */
export type Call = (...args: OpArgument[]) => unknown

/** The argument for a value of a case. `make` gives each tensor; those of a list go by their place, `key_caches[1]`. */
function withTensors(
  name: string,
  value: CaseValue | undefined,
  make: (spec: TensorSpec, key: string) => Tensor,
): OpArgument {
  if (typeof value !== 'object' || value === null) return value ?? null
  return 'dtype' in value ? make(value, name) : value.map((spec, i) => make(spec, `${name}[${i}]`))
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
      if (!this.card.reference)
        return { testCase, dtype, memories, outputs: new Map(), returned: [], types: [] }
      const exact = new Map<string, Tensor>()
      const exactArgs = this.names.map((name) => {
        const value = args[name]
        if (typeof value === 'string' && isFloat(value)) return 'float64'
        return withTensors(name, value, (spec, key) => {
          const tensor = exactTensor(spec, memories.get(key) ?? missing(key))
          if (this.written.has(name)) exact.set(key, tensor)
          return tensor
        })
      })
      const returned = tensorsOf(evaluate(this.card, exactArgs)).map(valuesOf)
      const outputs = new Map(Array.from(exact, ([key, tensor]) => [key, valuesOf(tensor)]))
      // The reference on a fake device tells the shape and dtype of what is returned.
      const fakes = this.names.map((name) => withTensors(name, args[name], fakeTensor))
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

  /** Runs a case with its tensors' memory so placed; says everything that is wrong. */
  run(prepared: PreparedCase, call: Call, placement?: Placement): string[] {
    return scope(() => {
      const { testCase, memories } = prepared
      const guarded = this.allocate(memories, placement)
      const args = this.arguments(testCase.args, guarded)
      let result: unknown
      try {
        result = call(...args)
      } catch (error) {
        const refusable =
          testCase.mayRefuse !== undefined &&
          blames(error, this.schema.name, testCase.mayRefuse) === undefined
        return refusable ? this.damage(guarded, new Set()) : [`threw ${error}`]
      }
      return [
        ...this.damage(guarded, this.written),
        ...this.differences(prepared, guarded, tensorsOf(result)),
        ...outOfRange(result, testCase.returns),
      ]
    })
  }

  /**
   * Runs a call that must be refused; says everything that is wrong. Where only the CPU would see what is, it may return instead and
   * write what its schema allows.
   */
  reject(rejection: AnyRejection, dtype: FloatDType, call: Call, placement?: Placement): string[] {
    const { name, args, argument, wrongValues } = rejection
    return scope(() => {
      const guarded = this.allocate(this.memories(args, `${this.schema.name}, ${dtype}, ${name}`), placement)
      const mayPass = wrongValues === true && this.device !== 'cpu'
      return this.rejectValues(this.arguments(args, guarded), guarded, argument, call, mayPass)
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

  /**
   * Calls with one of the tensors on another device than the rest, made from a right call: `[what is wrong, problems]` each. The
   * right call has to work afterwards.
   */
  *rejectDevices(
    testCase: AnyCase,
    elsewhere: readonly string[],
    call: Call,
  ): Generator<readonly [string, readonly string[]]> {
    const memories = this.memories(testCase.args, this.schema.name)
    const bound = Array.from(memories)
      .filter(([key, { spec }]) => spec.device === undefined && !this.card.anyDevice?.includes(nameOf(key)))
      .map(([key]) => key)
    // One tensor alone decides where the op runs.
    if (bound.length < 2) return
    const blamed = bound.map(nameOf)
    for (const key of bound)
      for (const device of elsewhere)
        yield [
          `${key} on ${device}`,
          scope(() => {
            const guarded = this.allocate(memories)
            const stray = memories.get(key)?.allocate(device) ?? missing(key)
            const args = this.arguments(testCase.args, new Map(guarded).set(key, stray))
            return this.rejectValues(args, guarded, blamed, call)
          }),
        ]
    yield [
      'the right call afterwards',
      scope(() => {
        try {
          call(...this.arguments(testCase.args, this.allocate(memories)))
          return []
        } catch (error) {
          return [`threw ${error}`]
        }
      }),
    ]
  }

  private rejectValues(
    args: OpArgument[],
    guarded: ReadonlyMap<string, GuardedTensor>,
    argument: string | readonly string[],
    call: Call,
    mayPass = false,
  ): string[] {
    try {
      call(...args)
      if (mayPass) return this.damage(guarded, this.written)
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
    for (const name of this.names)
      for (const [key, spec] of specsOf(name, args[name])) memories.set(key, new GuardedMemory(spec, random))
    return memories
  }

  private allocate(
    memories: ReadonlyMap<string, GuardedMemory>,
    placement?: Placement,
  ): Map<string, GuardedTensor> {
    return new Map(Array.from(memories, ([name, memory]) => [name, memory.allocate(this.device, placement)]))
  }

  private arguments(args: AnyCase['args'], guarded: ReadonlyMap<string, GuardedTensor>): OpArgument[] {
    return this.names.map((name) =>
      withTensors(name, args[name], (_, key) => {
        const { tensor } = guarded.get(key) ?? missing(key)
        return tensor
      }),
    )
  }

  /** What was written that may not be. */
  private damage(guarded: ReadonlyMap<string, GuardedTensor>, written: ReadonlySet<string>): string[] {
    return Array.from(guarded, ([key, tensor]) => {
      const problem = tensor.check(written.has(nameOf(key)))
      return problem === undefined ? [] : [`'${key}': ${problem}`]
    }).flat()
  }

  private differences(
    { outputs, returned, types, dtype }: PreparedCase,
    guarded: ReadonlyMap<string, GuardedTensor>,
    results: readonly Tensor[],
  ): string[] {
    const { tolerance, exact = [], scratch = [] } = this.card
    const problems: string[] = []
    for (const [key, expected] of outputs) {
      if (scratch.includes(nameOf(key))) continue
      const output = guarded.get(key) ?? missing(key)
      const { spec } = output.memory
      const type = isKernelFloat(spec.dtype) ? spec.dtype : dtype
      const criterion = exact.includes(nameOf(key)) ? 'nearest' : tolerance[type]
      const problem = compare(output.values(), expected, spec.shape, type, criterion)
      if (problem !== undefined) problems.push(`'${key}'${problem}`)
    }
    if (results.length !== returned.length)
      problems.push(`returned ${results.length} tensors, expected ${returned.length}`)
    for (const [i, result] of results.entries()) {
      const type = types[i]
      const expected = returned[i]
      if (!type || !expected) continue
      const want = `${type.dtype}[${type.shape.join(', ')}] on ${deviceOf(guarded) ?? this.device}`
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

/** The device, with its index, of the tensors that are not bound to the CPU. */
function deviceOf(guarded: ReadonlyMap<string, GuardedTensor>): string | undefined {
  for (const { memory, tensor } of guarded.values())
    if (memory.spec.device === undefined) return tensor.device
  return undefined
}

/** A case ready to run, as often as there are kernels. */
export interface PreparedCase {
  readonly testCase: AnyCase
  readonly dtype: FloatDType
  readonly memories: ReadonlyMap<string, GuardedMemory>
  /** The exact value of each written tensor. */
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
  list: ['list', true],
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

/** The tensors of an argument in a case, each with the key that `withTensors` gives it. */
function specsOf(name: string, value: CaseValue | undefined): [key: string, spec: TensorSpec][] {
  if (typeof value !== 'object' || value === null) return []
  return 'dtype' in value ? [[name, value]] : value.map((spec, i) => [`${name}[${i}]`, spec])
}

/** The name of the argument that a tensor of this key belongs to. */
function nameOf(key: string): string {
  return key.replace(/\[\d+\]$/, '')
}

function missing(key: string): never {
  throw new RangeError(`no tensor '${key}' was prepared`)
}

/** A tensor for the reference: floats widened to float64, the rest as it is. */
function exactTensor({ shape, dtype }: TensorSpec, { values }: GuardedMemory): Tensor {
  const wide = fromTypedArray(values.slice(), shape)
  return isFloat(dtype) ? wide : wide.to(dtype)
}

/** A tensor without data. */
function fakeTensor({ shape, dtype }: TensorSpec): Tensor {
  return empty(shape, { dtype, device: 'meta' })
}

/** What is wrong with a number that an op returned, where its case says what it may be. */
function outOfRange(result: unknown, range: AnyCase['returns']): string[] {
  if (!range) return []
  const [least, most] = range
  const value = typeof result === 'number' || typeof result === 'bigint' ? Number(result) : Number.NaN
  return value >= least && value <= most ? [] : [`returned ${result}, expected ${least} to ${most}`]
}
