// SPDX-License-Identifier: Apache-2.0
import { HEADER, put, rewind, setKernelTrampoline, snapshot, take, values } from './encoding'
import { VllmOpsError } from './errors'
import { native } from './native'
import type { OpArgument } from './operator'
import { Tensor } from './tensor'

/** A kernel in TypeScript: gets the op's arguments in the schema's order and returns what the schema says. */
export type Kernel = (...args: never[]) => OpArgument | readonly OpArgument[]

const kernels = new Map<number, Kernel>()
let nextKernel = 1
let pending: unknown

/** @internal The exception that a TypeScript kernel threw during the call that just failed. */
export function takeKernelError(): unknown {
  const error = pending
  pending = undefined
  return error
}

// Called by the dispatcher, through the addon, with the kernel's number in values[0] and the count of arguments in values[1].
setKernelTrampoline(() => {
  try {
    const kernel = kernels.get(values[0]!)
    if (!kernel) throw new VllmOpsError('E_TORCH', 'a kernel that was unregistered has been called')
    const count = values[1]!
    rewind()
    const args: unknown[] = new Array(count)
    for (let i = 0; i < count; i++) args[i] = take([])
    const result = kernel(...(args as never[]))
    const kept = new Set<unknown>(Array.isArray(result) ? result.flat() : [result])
    const results = snapshot(result)
    let position = HEADER
    // A kernel of several results returns a list; one result may be a list itself, which the schema tells the addon.
    if (results !== undefined) position = put(results, position)
    values[0] = 0
    // The wrappers of the arguments belong to this call; a result is freed once the addon has read it.
    for (const arg of args.flat()) if (arg instanceof Tensor && !kept.has(arg)) arg.dispose()
  } catch (error) {
    pending = error
    values[0] = -1
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

  /** Registers a kernel for an op of this namespace under a dispatch key. It runs on the thread that registered it. */
  impl(name: string, kernel: Kernel, dispatchKey: DispatchKey): this {
    const id = nextKernel++
    kernels.set(id, kernel)
    let unregister: () => void
    try {
      unregister = native().implement(this.#namespace, name, dispatchKey, id)
    } catch (error) {
      kernels.delete(id)
      throw error
    }
    this.#disposers.push(() => {
      unregister()
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
  try {
    native().define(namespace, schema)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new VllmOpsError(message.includes('already defined') ? 'E_SCHEMA_CONFLICT' : 'E_SCHEMA', message, {
      fix: message.includes('already defined')
        ? 'Two versions of one package are loaded: npm ls @vllm-ops/core'
        : "Write it like 'name(Tensor(a!) out, Tensor input, float eps) -> ()'",
      cause,
    })
  }
}

/** Loads a shared library with torch registrations into the process; its ops are called by `torch.<namespace>.<op>`. */
export function loadLibrary(path: string): void {
  try {
    native().loadLibrary(path)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    const wrongTorch = /undefined symbol|version `/.test(message)
    throw new VllmOpsError(wrongTorch ? 'E_TORCH_ABI' : 'E_BACKEND_UNAVAILABLE', message, {
      fix: wrongTorch
        ? `It needs another torch than ${native().torchVersion}`
        : 'Check the path and what the library needs: ldd',
      cause,
    })
  }
}
