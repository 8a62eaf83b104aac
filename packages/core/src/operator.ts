// SPDX-License-Identifier: Apache-2.0
import { compileCaller } from './caller'
import {
  type Complex,
  type Float,
  type Generator,
  HEADER,
  put,
  rewind,
  snapshot,
  take,
  values,
} from './encoding'
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
  | Float
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

/** The function of an operator with what belongs to it. */
export function makeOverload(op: NativeOperator): OpOverload {
  const addon = native()
  const redispatch = (keys: string | readonly string[], ...args: unknown[]) => {
    const given = arrangeOrThrow(op, args)
    addon.redispatchTo([keys].flat().map(String))
    return finish(addon, op, cross(op, given, addon.redispatch), given, redispatch)
  }
  const overload = Object.assign(makeCaller(op), {
    opName: op.name,
    schema: op.schema,
    redispatch,
  }) as OpOverload
  operators.set(overload, op)
  return overload
}

/** What is behind each function. */
const operators = new WeakMap<OpOverload, NativeOperator>()

/** The function of an operator: specialised where its arguments are mostly plain, and the general way for everything else. */
export function makeCaller(op: NativeOperator): (...args: unknown[]) => unknown {
  const addon = native()
  const general = (args: ArrayLike<unknown>) => {
    const given = arrangeOrThrow(op, Array.from(args))
    return finish(addon, op, cross(op, given, addon.call), given, general)
  }
  const complete = (results: number, args: ArrayLike<unknown>) => finish(addon, op, results, args, complete)
  const call = compileCaller(op, addon.call, general, complete) ?? ((...args: unknown[]) => general(args))
  return Object.defineProperty(call, 'name', { value: op.name })
}

/** What stands for the result of a call whose arguments the op's schema refuses. */
export const REFUSED = Symbol('refused')

/** Like {@link makeCaller}, but wrong arguments give {@link REFUSED}, without the cost of an error. */
export function makeAttempt(op: NativeOperator): (...args: unknown[]) => unknown {
  const addon = native()
  const complete = (results: number, args: ArrayLike<unknown>): unknown => {
    if (results !== NOT_TAKEN) return finish(addon, op, results, args, complete)
    addon.takeFailure()
    return REFUSED
  }
  const general = (args: ArrayLike<unknown>) => {
    const given = arrange(op, Array.from(args))
    return Array.isArray(given) ? complete(cross(op, given, addon.call), given) : REFUSED
  }
  const call = compileCaller(op, addon.call, general, complete) ?? ((...args: unknown[]) => general(args))
  return Object.defineProperty(call, 'name', { value: op.name })
}

// The count of results that says: the arguments don't fit the schema (csrc/environment.h).
const NOT_TAKEN = -2

/** Makes a call with arranged arguments; returns the count of results. */
function cross(op: NativeOperator, given: readonly unknown[], crossing: () => void): number {
  const position = encode(given)
  values[0] = op.id
  values[1] = position
  crossing()
  return values[0]!
}

/**
 * What a call returned, or its error, whose stack starts above `caller`: `results` is the count that the addon left in the header.
 */
function finish(
  addon: Addon,
  op: NativeOperator,
  results: number,
  args: ArrayLike<unknown>,
  caller: (...args: never[]) => unknown,
): unknown {
  if (results >= 0) return takeAll(results, args)
  throw failureOf(addon, op.schema, caller)
}

/** Writes arranged arguments into the buffer; returns the position behind the last. */
export function encode(args: readonly unknown[]): number {
  let position = HEADER
  for (let i = 0; i < args.length; i++) position = put(args[i], position)
  return position
}

/** Why arguments cannot be put into a schema's order. */
interface Mismatch {
  readonly argument: string
  readonly expected: string
  readonly received: string
}

function arrangeOrThrow(op: NativeOperator, args: readonly unknown[]): unknown[] {
  const given = arrange(op, args)
  if (Array.isArray(given)) return given
  const { argument, expected, received } = given
  throw new ArgumentError(op.name, argument, expected, received, { fix: fixOf(op.schema) })
}

/** Positional and keyword arguments in the schema's order, copied out of everything that could run the caller's code. */
function arrange(op: NativeOperator, args: readonly unknown[]): unknown[] | Mismatch {
  const last = args.at(-1)
  const options = isOptions(last) ? { ...last } : undefined
  const given = (options ? args.slice(0, -1) : args).map(snapshot)
  const positional = op.parameters.filter((parameter) => !parameter.keywordOnly).length
  if (given.length > positional) {
    const what = `${positional === op.parameters.length ? '' : 'positional '}argument${positional === 1 ? '' : 's'}`
    return { argument: '', expected: `${positional} ${what}`, received: `${given.length}` }
  }
  if (!options) return given
  for (const [name, value] of Object.entries(options)) {
    const index = op.parameters.findIndex((parameter) => parameter.name === name)
    if (index < 0)
      return {
        argument: name,
        expected: `one of ${op.parameters.map((p) => p.name).join(', ')}`,
        received: `'${name}'`,
      }
    if (index < given.length && given[index] !== undefined)
      return { argument: name, expected: 'one value', received: 'one by position and one by name' }
    while (given.length < index) given.push(undefined)
    given[index] = snapshot(value)
  }
  return given
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

/**
 * The error of a call that failed just now: a typed one, whose stack starts above `caller`, or what a kernel in TypeScript threw.
 */
export function failureOf(addon: Addon, schema: string, caller?: (...args: never[]) => unknown): unknown {
  const found = addon.takeFailure()
  const thrown = takeKernelError()
  if (found.code === 'JAVASCRIPT' && thrown) return thrown.error
  const error = errorOf(found, { fix: fixOf(schema), cause: thrown?.error })
  // Ten frames are kept: those of the caller say more than ours.
  if (caller) Error.captureStackTrace(error, caller)
  return error
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
  const given = arrangeOrThrow(op, args)
  const position = encode(given)
  values[0] = op.id
  values[1] = position
  return given
}
