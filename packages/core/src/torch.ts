// SPDX-License-Identifier: Apache-2.0
import type { AtenOp } from './aten'
import { ArgumentError, VllmOpsError } from './errors'
import { defineSchema } from './library'
import { registerMeta } from './meta'
import { NAMESPACE, type NativeOperator, native, onStart } from './native'
import {
  makeAttempt,
  makeCaller,
  type OpArgument,
  type OpOptions,
  type OpOverload,
  overloadOf,
  REFUSED,
  splitOverload,
} from './operator'
import { cards, type cardsByName } from './ops'
import type { OpFunction } from './schema/types'
import { Tensor } from './tensor'

/** All overloads of one op: calling it picks the first whose schema takes the arguments; `.Tensor` and the like name one. */
export type OpOverloadPacket = (<R = Tensor>(...args: (OpArgument | OpOptions)[]) => R) & {
  readonly [overload: string]: OpOverload
}

/** The ops of one namespace. */
export interface OpNamespace {
  readonly [op: string]: OpOverloadPacket
}

/** What a declared overload has beside its call: see {@link OpOverload}. */
export type OpInfo = Pick<OpOverload, 'opName' | 'schema' | 'redispatch'>

/**
 * Namespaces whose ops the compiler knows one by one. The file that `vllm-ops ops --types NAMESPACE` writes adds one by module
 * augmentation: a call with wrong arguments is then an error, and `torch.NAMESPACE.OP` is never possibly undefined.
 */
// biome-ignore lint/suspicious/noEmptyInterface: it is there to be augmented
export interface TypedNamespaces {}

/** PyTorch's own ops. All are there; the compiler knows those of the declaration, or without one those that inference is made of. */
export type AtenNamespace = TypedNamespaces extends { readonly aten: infer Typed }
  ? Typed & OpNamespace
  : OpNamespace & { readonly [Name in AtenOp]: OpOverloadPacket }

/** Every namespace of the dispatcher: those of {@link TypedNamespaces} with their types, the others by an index signature. */
export type Torch = Omit<TypedNamespaces, 'aten'> & {
  /** PyTorch's own ops. */
  readonly aten: AtenNamespace
  readonly [namespace: string]: OpNamespace
}

/** An op as the dispatcher lists it. */
export interface OpDescription {
  /** `aten::add` */
  readonly name: string
  /** `Tensor`; empty for the only or default one. */
  readonly overload: string
  readonly schema: string
}

/** Everything that has a schema in the dispatcher now, of one namespace or of all. */
export function listOps(namespace?: string): OpDescription[] {
  const all = native().listOperators()
  return namespace === undefined ? all : all.filter(({ name }) => name.startsWith(`${namespace}::`))
}

/** Whether a kernel of an op (`vllm_ops::rms_norm`, `aten::add.Tensor`) is registered for exactly this dispatch key. */
export function hasKernel(opName: string, dispatchKey: string): boolean {
  const [name, overload] = splitOverload(opName)
  return native().hasKernel(name, overload, dispatchKey)
}

/** Whether a call with tensors of this dispatch key finds a kernel, be it the key's own or a composite one. */
export function canRun(opName: string, dispatchKey: string): boolean {
  const [name, overload] = splitOverload(opName)
  return native().hasComputedKernel(name, overload, dispatchKey)
}

/**
 * An object that makes its properties on first use and keeps them, so that the second use is a plain property. Only unknown names reach
 * the proxy, which is the object's prototype. Promises and inspectors ask for a few names of their own: they get nothing.
 */
function lazily<O extends object>(make: (name: string) => O[keyof O]): O {
  const asked = new Set([
    'then',
    'toJSON',
    'constructor',
    'prototype',
    'inspect',
    'nodeType',
    'asymmetricMatch',
  ])
  const prototype = new Proxy(Object.create(null), {
    get(_, name, receiver) {
      if (typeof name !== 'string' || asked.has(name)) return undefined
      const value = make(name)
      Object.defineProperty(receiver, name, { value, enumerable: true, configurable: true })
      return value
    },
  })
  return Object.setPrototypeOf({}, prototype)
}

function makePacket(namespace: string, op: string): OpOverloadPacket {
  const opName = `${namespace}::${op}`
  const names = native().overloadsOf(opName)
  if (names.length === 0) throw new VllmOpsError('E_NO_OP', `no op ${opName} is defined in the dispatcher`)
  const operators = names.map((name) => native().findOperator(opName, name)!)
  const overloads = operators.map(({ name }) => overloadOf(name))
  const [only] = operators
  const packet = only && operators.length === 1 ? makeCaller(only) : resolver(opName, operators, overloads)
  Object.defineProperty(packet, 'name', { value: opName })
  for (const [index, name] of names.entries())
    Object.defineProperty(packet, name === '' ? 'default' : name, {
      value: overloads[index],
      enumerable: true,
    })
  return packet as OpOverloadPacket
}

// The passes over the overloads: those whose arguments without defaults are all given by position, then the others.
const SHORT_LATER = [false, true] as const

/**
 * A function that calls the first of the overloads, in the order of their registration as in Python, that takes the arguments. As in
 * Python, one whose argument without a default is left out comes after all others, even where that argument could be null.
 */
function resolver(
  opName: string,
  operators: readonly NativeOperator[],
  overloads: readonly OpOverload[],
): (...args: OpArgument[]) => unknown {
  const attempts = operators.map((operator) => ({
    call: makeAttempt(operator),
    least: operator.parameters.filter(({ hasDefault, keywordOnly }) => !hasDefault && !keywordOnly).length,
  }))
  return (...args) => {
    for (const short of SHORT_LATER)
      for (const { call, least } of attempts) {
        if (args.length < least !== short) continue
        const result = call(...args)
        if (result !== REFUSED) return result
      }
    throw refusal(opName, operators, overloads, args)
  }
}

/** Why no overload takes the arguments: every candidate with its own reason. */
function refusal(
  opName: string,
  operators: readonly NativeOperator[],
  overloads: readonly OpOverload[],
  args: readonly OpArgument[],
): unknown {
  const last = args.at(-1)
  const named = typeof last === 'object' && last !== null ? Object.keys(last) : []
  // Out variants stand in the list only where their output is named: otherwise nobody meant them.
  const outs = operators.map(({ parameters }) => parameters.filter(({ out }) => out))
  const chosen = overloads.filter((_, i) => outs[i]!.some(({ name }) => named.includes(name)))
  const candidates = chosen.length > 0 ? chosen : overloads.filter((_, i) => outs[i]!.length === 0)
  const refusals = candidates.map((overload) => {
    try {
      overload<unknown>(...args)
    } catch (error) {
      // Only this overload's own refusal of the arguments: no kernel has run.
      if (error instanceof ArgumentError && error.op === overload.opName) return error
      throw error
    }
    return new ArgumentError(overload.opName, '', 'arguments that stay the same', 'other ones at each look')
  })
  const [first] = refusals
  if (first && refusals.every((one) => reasonOf(one) === reasonOf(first))) return first
  const received = `(${args.map(describe).join(', ')})`
  return new ArgumentError(opName, '', 'the arguments of one of its overloads', received, {
    detail: candidates
      .map(({ schema }, i) => `\n  ${schema.slice(schema.indexOf('::') + 2)}\n    ${reasonOf(refusals[i]!)}`)
      .join(''),
    fix: 'Name the overload that is meant, as in torch.aten.add.Tensor(…), for its own message',
  })
}

function reasonOf({ op, message }: ArgumentError): string {
  return message.slice(op.length + 2)
}

/** An argument as messages show it. */
function describe(value: unknown): string {
  if (value instanceof Tensor) return value.disposed ? 'a disposed tensor' : `tensor ${value}`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'object' && value !== null) {
    const keys = Object.keys(value)
    return keys.length === 0 ? '{}' : `{ ${keys.join(', ')} }`
  }
  return typeof value === 'string' ? `'${value}'` : value === undefined ? 'nothing' : String(value)
}

/** Every op of the dispatcher: `torch.aten.mm(a, b)`, `torch.aten.add.Tensor(a, b, { alpha: 2 })`, `torch.vllm_ops.rms_norm(…)`. */
export const torch: Torch = lazily<Torch>((namespace) =>
  lazily<OpNamespace>((op) => makePacket(namespace, op)),
)

type Cards = typeof cardsByName

/** Our ops, typed from their schemas. */
export type Ops = { readonly [Name in keyof Cards]: OpFunction<Cards[Name]['schema']> }

// Process-wide and kept for good: workers and a second copy of this package define the same strings again.
onStart(() => {
  for (const card of cards) defineSchema(NAMESPACE, card.schema)
  registerMeta()
})

/** Our ops: `ops.rms_norm(out, input, weight, epsilon)`. What each does stands in its card. */
export const ops: Ops = lazily<Ops>((name) => overloadOf(`${NAMESPACE}::${name}`))
