// SPDX-License-Identifier: Apache-2.0
import { AsyncLocalStorage } from 'node:async_hooks'
import { Tensor } from './tensor'

type Tensors = Set<Tensor>

let current: Tensors | undefined
// Only asynchronous scopes pay for async context tracking, and only while one is open.
const storage = new AsyncLocalStorage<Tensors>()
let asynchronous = 0

/** @internal Remembers a new tensor in the innermost open scope. */
export function adoptIntoScope(tensor: Tensor): void {
  if (current !== undefined) current.add(tensor)
  else if (asynchronous > 0) storage.getStore()?.add(tensor)
}

/**
 * Runs `fn` and then frees every tensor that was made inside, but for those in what it returns: a tensor, or arrays, plain objects and
 * Maps of tensors to any depth. Tensors that existed before are left alone. Scopes nest: what leaves an inner one belongs to the outer.
 * With an async function the scope lasts until its promise settles, and follows it across `await`.
 * When `fn` throws, everything made inside is freed.
 */
export function scope<T>(fn: () => T): T {
  return Object.prototype.toString.call(fn) === '[object AsyncFunction]'
    ? (scopeAsync(fn as () => Promise<unknown>) as T)
    : scopeSync(fn)
}

/**
 * Takes a tensor out of the scope that it was made in: it lives until `dispose()`, as if there were no scope. For what is made on
 * the first use and kept for later ones.
 */
export function keep<T extends Tensor>(tensor: T): T {
  current?.delete(tensor)
  storage.getStore()?.delete(tensor)
  return tensor
}

function scopeSync<T>(fn: () => T): T {
  const outer = current
  const made: Tensors = new Set()
  current = made
  let result: T
  try {
    result = fn()
  } catch (error) {
    free(made)
    throw error
  } finally {
    current = outer
  }
  if (result instanceof Promise) {
    // A plain function that returned a promise: what it made before its first await stays until the promise settles.
    return result.then(
      (value: unknown) => close(made, value, outer),
      (error: unknown) => {
        free(made)
        throw error
      },
    ) as T
  }
  return close(made, result, outer)
}

async function scopeAsync<T>(fn: () => Promise<T>): Promise<T> {
  const outer = current ?? storage.getStore()
  const made: Tensors = new Set()
  const synchronous = current
  asynchronous++
  current = undefined
  try {
    const pending = storage.run(made, fn)
    current = synchronous
    return close(made, await pending, outer)
  } catch (error) {
    free(made)
    throw error
  } finally {
    current = synchronous === undefined ? current : synchronous
    asynchronous--
  }
}

function close<T>(made: Tensors, result: T, outer: Tensors | undefined): T {
  const kept = new Set<unknown>()
  collect(result, kept)
  for (const tensor of made) {
    if (!kept.has(tensor)) tensor.dispose()
    else outer?.add(tensor)
  }
  return result
}

function free(made: Tensors): void {
  for (const tensor of made) tensor.dispose()
}

function collect(value: unknown, found: Set<unknown>): void {
  if (typeof value !== 'object' || value === null || found.has(value)) return
  if (value instanceof Tensor) {
    found.add(value)
    return
  }
  if (ArrayBuffer.isView(value)) return
  found.add(value)
  if (Array.isArray(value)) for (const item of value) collect(item, found)
  else if (value instanceof Map || value instanceof Set)
    for (const item of value.values()) collect(item, found)
  else for (const item of Object.values(value)) collect(item, found)
}
