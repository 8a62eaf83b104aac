// SPDX-License-Identifier: Apache-2.0
import { types } from 'node:util'
import { ArgumentError, VllmOpsError } from './errors'
import { type FallbackKernel, type Kernel, registerKernel } from './kernel'
import { native } from './native'

/**
 * The dispatch keys and aliases that a kernel may be registered for. `CompositeExplicitAutograd` stands for every device;
 * `CompositeImplicitAutograd` too, for ops made of other ops only. Every other key of PyTorch's can be named as well.
 */
export type DispatchKey =
  | 'CPU'
  | 'CUDA'
  | 'Meta'
  | 'PrivateUse1'
  | 'CompositeExplicitAutograd'
  | 'CompositeImplicitAutograd'
  | (string & {})

const KINDS = ['DEF', 'FRAGMENT', 'IMPL'] as const

/** What a library does: `DEF` and `FRAGMENT` define and implement, `IMPL` only implements. */
export type LibraryKind = (typeof KINDS)[number]

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
   * @param namespace the namespace of the ops, such as `vllm_ops`; `_` stands for all of them, for a `fallback`
   */
  constructor(
    namespace: string,
    readonly kind: LibraryKind,
  ) {
    if (typeof namespace !== 'string' || !/^\w+$/.test(namespace))
      throw new ArgumentError('Library', 'namespace', "a name such as 'my'", `'${namespace}'`)
    if (!KINDS.includes(kind))
      throw new ArgumentError('Library', 'kind', KINDS.map((known) => `'${known}'`).join(', '), `'${kind}'`)
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
   * Registers a kernel for an op of this namespace under a dispatch key. Calls from this thread come to it, from TypeScript and from ops
   * in C++; other threads register their own, and a call from one that did not is `E_NO_KERNEL`. The tensors among its arguments belong
   * to the call: what it wants to keep it has to clone.
   *
   * @param name the op, with its overload where it has one: `add.Tensor`
   * @param dispatchKey where nothing is said, every device and mode that has no kernel of its own (the catch-all)
   * @param options `allowOverride`: take the place of a kernel that is there already, until this library is disposed
   * @throws {VllmOpsError} `E_NO_OP` where no such op is defined, `E_KERNEL_CONFLICT` where it has a kernel for the key
   */
  impl(
    name: string,
    kernel: Kernel,
    dispatchKey: DispatchKey = 'CompositeImplicitAutograd',
    { allowOverride = false }: { readonly allowOverride?: boolean } = {},
  ): this {
    const namespace = this.#namespace
    requireFunction(`Library(${namespace}).impl`, kernel)
    if (namespace === '_' || String(name) === '')
      throw new ArgumentError(`Library(${namespace}).impl`, 'name', "an op's name", `'${name}'`, {
        fix: 'Register a kernel for all ops by fallback()',
      })
    const where = { namespace, name: String(name), dispatchKey: String(dispatchKey), allowOverride }
    this.#disposers.push(registerKernel({ kernel }, where))
    return this
  }

  /**
   * Registers what runs under a dispatch key for every op, of any namespace, that has no kernel there. It gets the op and the arguments of
   * the call, and returns what the op's schema says.
   *
   * @param dispatchKey a key of a device or a mode, no alias: `PrivateUse1`, `TESTING_ONLY_GenericMode`
   * @throws {VllmOpsError} `E_KERNEL_CONFLICT` where the key has a fallback, as most of PyTorch's own have
   */
  fallback(kernel: FallbackKernel, dispatchKey: DispatchKey): this {
    requireFunction(`Library(${this.#namespace}).fallback`, kernel)
    if (this.#namespace !== '_')
      throw new ArgumentError(
        `Library(${this.#namespace}).fallback`,
        'namespace',
        "'_', which stands for all",
        `'${this.#namespace}'`,
        { fix: "Make the library by new Library('_', 'IMPL')" },
      )
    const where = { namespace: '_', name: '', dispatchKey: String(dispatchKey), allowOverride: false }
    this.#disposers.push(registerKernel({ fallback: kernel }, where))
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

function requireFunction(where: string, kernel: unknown): void {
  if (typeof kernel !== 'function') throw new ArgumentError(where, 'kernel', 'a function', typeof kernel)
}

/** Defines a schema in the dispatcher, for the whole process and for good. */
export function defineSchema(namespace: string, schema: string): void {
  native().define(String(namespace), String(schema))
}

/**
 * Runs a function whose ops dispatch on more or fewer keys than their tensors say: what is included comes on top, what is excluded is
 * passed over. It concerns this thread, and ends with the function, which has to be synchronous.
 *
 * @throws {ArgumentError} for an alias or an unknown key, and when the function returns a promise
 */
export function withDispatchKeys<T>(
  keys: { readonly include?: readonly DispatchKey[]; readonly exclude?: readonly DispatchKey[] },
  fn: () => T,
): T {
  native().enterDispatchKeys((keys.include ?? []).map(String), (keys.exclude ?? []).map(String))
  let result: T
  try {
    result = fn()
  } finally {
    native().leaveDispatchKeys()
  }
  if (types.isPromise(result))
    throw new ArgumentError('withDispatchKeys', 'fn', 'a synchronous function', 'one that returns a promise')
  return result
}
