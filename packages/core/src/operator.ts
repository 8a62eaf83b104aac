// SPDX-License-Identifier: Apache-2.0
import { compileCaller } from './caller'
import { type Complex, type Generator, HEADER, put, rewind, snapshot, take, values } from './encoding'
import { ArgumentError, errorOf, VllmOpsError } from './errors'
import { takeKernelError } from './kernel'
import { type Addon, type NativeOperator, native } from './native'
import type { Tensor } from './tensor'

/** What ops take: tensors, numbers (bigints for integers beyond 2^53), booleans, strings (also dtypes and devices), lists of them. */
export type OpArgument =
  | Tensor
  | number
  | bigint
  | boolean
  | string
  | null
  | undefined
  | Complex
  | Generator
  | readonly OpArgument[]

/** Keyword arguments: the last argument of a call, as a plain object. */
export type OpOptions = { readonly [name: string]: OpArgument }

/** An op of the dispatcher as a function. What it returns follows its schema; TypeScript takes a tensor where nothing else is said. */
export interface OpOverload {
  <R = Tensor>(...args: (OpArgument | OpOptions)[]): R
  /** `aten::add.Tensor` */
  readonly opName: string
  /** The schema as the dispatcher prints it. */
  readonly schema: string
  /**
   * Calls the op's kernel for the highest of these dispatch keys, whatever keys the arguments have: how a kernel for one key hands over to
   * that of another.
   *
   * @throws {ArgumentError} for an unknown key or an alias; `E_NO_KERNEL` where the op has none for it
   */
  redispatch<R = Tensor>(keys: string | readonly string[], ...args: (OpArgument | OpOptions)[]): R
}

/** The function of an operator: specialised where its arguments are mostly plain, and the general way for everything else. */
export function makeOverload(op: NativeOperator): OpOverload {
  const addon = native()
  const positional = op.parameters.filter((parameter) => !parameter.keywordOnly).length
  const general = (args: ArrayLike<unknown>) => callAny(addon, op, Array.from(args), positional)
  const call =
    compileCaller(op, addon.call, general, (results, args) => finish(addon, op, results, args)) ??
    ((...args: unknown[]) => general(args))
  Object.defineProperty(call, 'name', { value: op.name })
  const redispatch = (keys: string | readonly string[], ...args: unknown[]) => {
    const given = arrange(op, args, positional)
    addon.redispatchTo([keys].flat().map(String))
    return cross(addon, op, given, addon.redispatch)
  }
  const overload = Object.assign(call, { opName: op.name, schema: op.schema, redispatch }) as OpOverload
  operators.set(overload, op)
  return overload
}

/** What is behind each function. */
const operators = new WeakMap<OpOverload, NativeOperator>()

/** The general way: lists, keyword arguments, any number of arguments. */
function callAny(addon: Addon, op: NativeOperator, args: readonly unknown[], positional: number): unknown {
  return cross(addon, op, arrange(op, args, positional), addon.call)
}

function cross(addon: Addon, op: NativeOperator, given: readonly unknown[], crossing: () => void): unknown {
  const position = encode(given)
  values[0] = op.id
  values[1] = position
  crossing()
  return finish(addon, op, values[0]!, given)
}

/** What a call returned, or its error: `results` is the count that the addon left in the header. */
function finish(addon: Addon, op: NativeOperator, results: number, args: ArrayLike<unknown>): unknown {
  if (results < 0) throw failureOf(addon, op.schema)
  return takeAll(results, args)
}

/** Writes arranged arguments into the buffer; returns the position behind the last. */
export function encode(args: readonly unknown[]): number {
  let position = HEADER
  for (let i = 0; i < args.length; i++) position = put(args[i], position)
  return position
}

/** Positional and keyword arguments in the schema's order, copied out of everything that could run the caller's code. */
function arrange(op: NativeOperator, args: readonly unknown[], positional: number): unknown[] {
  const last = args.at(-1)
  const options = isOptions(last) ? { ...last } : undefined
  const given = (options ? args.slice(0, -1) : args).map(snapshot)
  if (given.length > positional) {
    const what = `${positional === op.parameters.length ? '' : 'positional '}argument${positional === 1 ? '' : 's'}`
    throw refusal(op, '', `${positional} ${what}`, `${given.length}`)
  }
  if (!options) return given
  for (const [name, value] of Object.entries(options)) {
    const index = op.parameters.findIndex((parameter) => parameter.name === name)
    if (index < 0)
      throw refusal(op, name, `one of ${op.parameters.map((p) => p.name).join(', ')}`, `'${name}'`)
    if (index < given.length && given[index] !== undefined)
      throw refusal(op, name, 'one value', 'one by position and one by name')
    while (given.length < index) given.push(undefined)
    given[index] = snapshot(value)
  }
  return given
}

function refusal(op: NativeOperator, argument: string, expected: string, received: string): ArgumentError {
  return new ArgumentError(op.name, argument, expected, received, { fix: fixOf(op.schema) })
}

/** A plain object, of any realm: not a tensor, an array, or an instance of a class. */
function isOptions(value: unknown): value is OpOptions {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || Object.getPrototypeOf(prototype) === null
}

/** Reads the results of a call: nothing, the only one, or an array of them. */
export function takeAll(results: number, args: ArrayLike<unknown>): unknown {
  if (results === 0) return undefined
  rewind()
  if (results === 1) return take(args)
  const all: unknown[] = new Array(results)
  for (let i = 0; i < results; i++) all[i] = take(args)
  return all
}

/** The error of a call that failed just now: a typed one, or what a kernel in TypeScript threw. */
export function failureOf(addon: Addon, schema: string): unknown {
  const found = addon.takeFailure()
  const thrown = takeKernelError()
  if (found.code === 'JAVASCRIPT' && thrown) return thrown.error
  return errorOf(found, { fix: fixOf(schema), cause: thrown?.error })
}

function fixOf(schema: string): string {
  return `The op is ${schema}`
}

const byName = new Map<string, OpOverload>()

/** The function of an operator by its full name, `aten::view` or `aten::view.dtype`. */
export function overloadOf(fullName: string): OpOverload {
  const known = byName.get(fullName)
  if (known) return known
  const op = native().findOperator(...splitOverload(fullName))
  if (!op) throw new VllmOpsError('E_NO_OP', `no op ${fullName} is defined in the dispatcher`)
  const overload = makeOverload(op)
  byName.set(fullName, overload)
  return overload
}

/** Calls an operator by its full name. */
export function callOperator(fullName: string, ...args: unknown[]): unknown {
  return overloadOf(fullName)(...(args as OpArgument[]))
}

/** Splits `aten::add.Tensor` into the op's name and the overload's, which may be empty. */
export function splitOverload(opName: string): [string, string] {
  const separator = opName.indexOf('.')
  return separator < 0 ? [opName, ''] : [opName.slice(0, separator), opName.slice(separator + 1)]
}

/** The outputs that an overload writes to by name, as `out` of an out variant. */
export function outputsOf(overload: OpOverload): string[] {
  const parameters = operators.get(overload)?.parameters ?? []
  return parameters.filter(({ out }) => out).map(({ name }) => name)
}

/** Writes a call into the argument buffer without making it; returns its arguments in the schema's order. */
export function prepareCall(overload: OpOverload, args: readonly unknown[]): readonly unknown[] {
  const op = operators.get(overload)
  if (!op) throw new ArgumentError(String(overload.opName), '', 'an op of the dispatcher', 'another function')
  const positional = op.parameters.filter((parameter) => !parameter.keywordOnly).length
  const given = arrange(op, args, positional)
  const position = encode(given)
  values[0] = op.id
  values[1] = position
  return given
}
