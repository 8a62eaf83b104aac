// SPDX-License-Identifier: Apache-2.0
//
// Kernels written in TypeScript: how the dispatcher calls them.
import { HEADER, put, rewind, snapshot, take, values } from './encoding'
import { VllmOpsError } from './errors'
import { native } from './native'
import { type OpArgument, type OpOverload, overloadOf, splitOverload } from './operator'
import { Tensor } from './tensor'
import { setKernelTrampoline } from './trampoline'

/** A kernel in TypeScript: gets the op's arguments in the schema's order and returns what the schema says. */
export type Kernel = (...args: never[]) => OpArgument | readonly OpArgument[]

/**
 * A kernel for every op: gets the op, then its arguments as a call has them, so that `op(...args)` makes the same call: keyword-only ones are in
 * an object at the end. It returns what the op's schema says.
 */
export type FallbackKernel = (op: OpOverload, ...args: never[]) => OpArgument | readonly OpArgument[]

type Registered = { readonly kernel: Kernel } | { readonly fallback: FallbackKernel }

const kernels = new Map<number, Registered>()
let nextKernel = 1
let pending: { error: unknown } | undefined

/** Where kernels are registered: an op of a namespace, or with an empty name every op that has no kernel of its own for the key. */
export interface Registration {
  readonly namespace: string
  readonly name: string
  readonly dispatchKey: string
  readonly allowOverride: boolean
}

/** Registers a kernel; returns what takes it away again. */
export function registerKernel(registered: Registered, where: Registration): () => void {
  const { namespace, name, dispatchKey, allowOverride } = where
  const id = nextKernel++
  const key = native().implement(namespace, name, dispatchKey, id, allowOverride)
  kernels.set(id, registered)
  return () => {
    native().unimplement(key)
    kernels.delete(id)
  }
}

/** @internal The exception that a TypeScript kernel threw during the call that just failed. */
export function takeKernelError(): { error: unknown } | undefined {
  const thrown = pending
  pending = undefined
  return thrown
}

// Called by the dispatcher, through the addon, with the kernel's number in values[0] and the count of arguments in values[1].
setKernelTrampoline(() => {
  const args: unknown[] = []
  let result: unknown
  try {
    const registered = kernels.get(values[0]!)
    const count = values[1]!
    rewind()
    for (let i = 0; i < count; i++) args.push(take([]))
    result = run(registered, args as never[])
    // What a kernel of several results returns is an array; one result may be an array itself, which the schema tells the addon.
    put(snapshot(result), HEADER)
    values[0] = 0
  } catch (error) {
    pending = { error }
    values[0] = -1
  } finally {
    // The tensors of the arguments belong to this call, but for those that the addon is about to read as results.
    const kept = new Set<unknown>(Array.isArray(result) ? result.flat() : [result])
    const outcome = values[0]!
    for (const arg of args.flat()) if (arg instanceof Tensor && !kept.has(arg)) arg.dispose()
    values[0] = outcome
  }
})

function run(registered: Registered | undefined, args: never[]): unknown {
  if (!registered) throw new VllmOpsError('E_NO_KERNEL', 'a kernel that was unregistered has been called')
  if ('kernel' in registered) return registered.kernel(...args)
  const op = overloadOf(native().kernelOperator())
  const keywords = keywordsOf(op)
  if (keywords.length === 0) return registered.fallback(op, ...args)
  const positional = args.length - keywords.length
  const options = Object.fromEntries(keywords.map((name, i) => [name, args[positional + i]]))
  return registered.fallback(op, ...args.slice(0, positional), options as never)
}

const keywords = new WeakMap<OpOverload, readonly string[]>()

/** The names of an op's keyword-only arguments, which come last in its schema. */
function keywordsOf(op: OpOverload): readonly string[] {
  const known = keywords.get(op)
  if (known) return known
  const parameters = native().findOperator(...splitOverload(op.opName))?.parameters ?? []
  const names = parameters.filter(({ keywordOnly }) => keywordOnly).map(({ name }) => name)
  keywords.set(op, names)
  return names
}
