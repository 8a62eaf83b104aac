// SPDX-License-Identifier: Apache-2.0
import { ArgumentError, VllmOpsError } from './errors'
import { defineSchema } from './library'
import { NAMESPACE, native, onStart } from './native'
import { type OpArgument, type OpOptions, type OpOverload, overloadOf } from './operator'
import { cards, type cardsByName } from './ops'
import type { OpFunction } from './schema/types'
import type { Tensor } from './tensor'

/** All overloads of one op: calling it picks the first whose schema takes the arguments; `.Tensor` and the like name one. */
export type OpOverloadPacket = (<R = Tensor>(...args: (OpArgument | OpOptions)[]) => R) & {
  readonly [overload: string]: OpOverload
}

/** The ops of one namespace. */
export interface OpNamespace {
  readonly [op: string]: OpOverloadPacket
}

/** Every namespace of the dispatcher. Packages add the types of their own by declaration merging. */
export interface Torch {
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

function splitOverload(opName: string): [string, string] {
  const separator = opName.indexOf('.')
  return separator < 0 ? [opName, ''] : [opName.slice(0, separator), opName.slice(separator + 1)]
}

/**
 * An object that makes its properties on first use and keeps them, so that the second use is a plain property. Only unknown names reach
 * the proxy, which is the object's prototype. Promises and inspectors ask for a few names of their own: they get nothing.
 */
function lazily<T>(make: (name: string) => T, target: object = {}): Record<string, T> {
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
  return Object.setPrototypeOf(target, prototype)
}

function overloadNames(opName: string): string[] {
  const names = native()
    .listOperators()
    .filter(({ name }) => name === opName)
    .map(({ overload }) => overload)
  // The default one first, then the one of tensors, as PyTorch's own lists mostly go.
  const rank = (overload: string) => (overload === '' ? 0 : overload === 'Tensor' ? 1 : 2)
  return names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1))
}

function makePacket(namespace: string, op: string): OpOverloadPacket {
  const opName = `${namespace}::${op}`
  const names = overloadNames(opName)
  if (names.length === 0)
    throw new VllmOpsError('E_NO_OP', `no op ${opName} is defined in the dispatcher`, {
      fix: 'List what is there: npx vllm-ops ops, or load the library that defines it: loadLibrary(path)',
    })
  const overloads = names.map((name) => overloadOf(name === '' ? opName : `${opName}.${name}`))
  const only = overloads.length === 1 ? overloads[0]! : undefined
  const call = (...args: (OpArgument | OpOptions)[]): unknown => {
    if (only) return only(...args)
    const refused: string[] = []
    for (const overload of overloads) {
      try {
        return overload(...args)
      } catch (error) {
        // Only this overload's own refusal of the arguments: a kernel that checks them has run.
        if (!(error instanceof ArgumentError) || error.op !== overload.opName) throw error
        refused.push(error.message)
      }
    }
    throw new ArgumentError(opName, '', `arguments of one of its overloads (${refused.join('; ')})`, 'others')
  }
  const packet = Object.defineProperty(call, 'name', { value: opName })
  for (const [index, name] of names.entries())
    Object.defineProperty(packet, name === '' ? 'default' : name, {
      value: overloads[index],
      enumerable: true,
    })
  return packet as unknown as OpOverloadPacket
}

/** Every op of the dispatcher: `torch.aten.mm(a, b)`, `torch.aten.add.Tensor(a, b, { alpha: 2 })`, `torch.vllm_ops.rms_norm(…)`. */
export const torch: Torch = lazily((namespace) => lazily((op) => makePacket(namespace, op)))

type Cards = typeof cardsByName

/** Our ops, typed from their schemas. */
export type Ops = { readonly [Name in keyof Cards]: OpFunction<Cards[Name]['schema']> }

// Process-wide and kept for good: workers and a second copy of this package define the same strings again.
onStart(() => {
  for (const card of cards) defineSchema(NAMESPACE, card.schema)
})

/** Our ops: `ops.rms_norm(out, input, weight, epsilon)`. What each does stands in its card. */
export const ops: Ops = lazily((name) => overloadOf(`${NAMESPACE}::${name}`)) as unknown as Ops
