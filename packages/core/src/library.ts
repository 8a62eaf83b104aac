// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { HEADER, put, rewind, setKernelTrampoline, snapshot, take, values } from './encoding'
import { ArgumentError, VllmOpsError } from './errors'
import { native } from './native'
import type { OpArgument } from './operator'
import { Tensor } from './tensor'

/** A kernel in TypeScript: gets the op's arguments in the schema's order and returns what the schema says. */
export type Kernel = (...args: never[]) => OpArgument | readonly OpArgument[]

const kernels = new Map<number, Kernel>()
let nextKernel = 1
let pending: { error: unknown } | undefined

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
    const kernel = kernels.get(values[0]!)
    const count = values[1]!
    rewind()
    for (let i = 0; i < count; i++) args.push(take([]))
    if (!kernel) throw new VllmOpsError('E_NO_KERNEL', 'a kernel that was unregistered has been called')
    result = kernel(...(args as never[]))
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

/** The dispatch keys and aliases that a kernel may be registered for. */
export type DispatchKey =
  | 'CPU'
  | 'CUDA'
  | 'Meta'
  | 'PrivateUse1'
  | 'CompositeExplicitAutograd'
  | 'CompositeImplicitAutograd'
  | (string & {})

/**
 * A set of registrations made from TypeScript, like Python's `torch.library.Library`.
 *
 * @example
 * const library = new Library('my', 'FRAGMENT')
 * library.define('twice(Tensor x) -> Tensor')
 * library.impl('twice', (x: Tensor) => torch.aten.add(x, x), 'CompositeExplicitAutograd')
 */
export class Library {
  readonly #namespace: string
  readonly #disposers: (() => void)[] = []

  /**
   * @param namespace the namespace of the ops, such as `vllm_ops`
   * @param kind what the library does: `DEF` and `FRAGMENT` define and implement, `IMPL` only implements
   */
  constructor(
    namespace: string,
    readonly kind: 'DEF' | 'FRAGMENT' | 'IMPL',
  ) {
    this.#namespace = namespace
  }

  /** Defines an op by its schema. Defining the very same schema again does nothing; another one of that name throws. */
  define(schema: string): this {
    if (this.kind === 'IMPL')
      throw new VllmOpsError('E_SCHEMA', `a Library of kind IMPL cannot define '${schema}'`, {
        fix: "Make it with kind 'FRAGMENT'",
      })
    defineSchema(this.#namespace, schema)
    return this
  }

  /**
   * Registers a kernel for an op of this namespace under a dispatch key. Calls from this thread come to it; other threads register
   * their own. The tensors among its arguments belong to the call: what it wants to keep it has to clone.
   *
   * @param name the op, with its overload where it has one: `add.Tensor`
   * @param options `allowOverride`: take the place of a kernel that is there already, until this library is disposed
   * @throws {VllmOpsError} `E_NO_OP` where no such op is defined, `E_KERNEL_CONFLICT` where it has a kernel for the key
   */
  impl(
    name: string,
    kernel: Kernel,
    dispatchKey: DispatchKey,
    { allowOverride = false }: { readonly allowOverride?: boolean } = {},
  ): this {
    if (typeof kernel !== 'function')
      throw new ArgumentError(`Library(${this.#namespace}).impl`, 'kernel', 'a function', typeof kernel)
    const id = nextKernel++
    const key = native().implement(this.#namespace, String(name), String(dispatchKey), id, allowOverride)
    kernels.set(id, kernel)
    this.#disposers.push(() => {
      native().unimplement(key)
      kernels.delete(id)
    })
    return this
  }

  /** Takes this library's kernels out of the dispatcher. Definitions stay: somebody may hold their operators. */
  dispose(): void {
    for (const dispose of this.#disposers.splice(0).reverse()) dispose()
  }

  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Defines a schema in the dispatcher, for the whole process and for good. */
export function defineSchema(namespace: string, schema: string): void {
  native().define(String(namespace), String(schema))
}

/**
 * Loads a shared library with torch registrations into the process; its ops are called by `torch.<namespace>.<op>`. Once is enough,
 * twice does nothing.
 *
 * @throws {VllmOpsError} `E_BACKEND_UNAVAILABLE` where it does not open, `E_TORCH_ABI` where it was built for another torch
 */
export function loadLibrary(path: string): void {
  if (typeof path !== 'string' || path.includes('\0'))
    throw new ArgumentError('loadLibrary', 'path', 'the path of a shared library', inspect(path))
  native().loadLibrary(path)
}
