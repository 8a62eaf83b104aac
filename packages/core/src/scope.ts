// SPDX-License-Identifier: Apache-2.0
import { AsyncLocalStorage } from 'node:async_hooks'
import { types } from 'node:util'
import { Tensor } from './tensor'

/** A scope that is open, or was. */
interface Frame {
  readonly made: Set<Tensor>
  readonly outer: Frame | undefined
  open: boolean
}

// The innermost synchronous scope. Asynchronous ones travel with the async context, which is tracked only while one is open.
let current: Frame | undefined
const storage = new AsyncLocalStorage<Frame>()
let asynchronous = 0

function innermost(): Frame | undefined {
  let frame = current ?? (asynchronous > 0 ? storage.getStore() : undefined)
  // What an async function left running outlives its scope.
  while (frame !== undefined && !frame.open) frame = frame.outer
  return frame
}

/** @internal Remembers a new tensor in the innermost open scope. */
export function adoptIntoScope(tensor: Tensor): void {
  if (current !== undefined) current.made.add(tensor)
  else if (asynchronous > 0) innermost()?.made.add(tensor)
}

/** @internal Forgets a tensor that was disposed, so that a long scope doesn't collect them. */
export function removeFromScope(tensor: Tensor): void {
  if (current !== undefined) current.made.delete(tensor)
  else if (asynchronous > 0) innermost()?.made.delete(tensor)
}

/**
 * Runs `fn` and then frees every tensor that was made inside, but for those in what it returns: a tensor, or arrays, plain objects,
 * Sets and Maps of tensors to any depth. Tensors that existed before are left alone. Scopes nest: what leaves an inner one belongs to
 * the outer. When `fn` throws, everything made inside is freed.
 *
 * With an `async` function the scope lasts until its promise settles and follows it across `await`; any number may run at once. A plain
 * function that returns a promise keeps what it made itself until then, and no more.
 */
export function scope<T>(fn: () => T): T {
  return types.isAsyncFunction(fn) ? scopeAsync(fn) : scopeSync(fn)
}

/**
 * Takes a tensor out of the scopes that are open: it lives until `dispose()`, as if there were none. For what is made on the first use
 * and kept for later ones.
 */
export function keep<T extends Tensor>(tensor: T): T {
  for (let frame = innermost(); frame !== undefined; frame = frame.outer) frame.made.delete(tensor)
  return tensor
}

function scopeSync<T>(fn: () => T): T {
  const frame: Frame = { made: new Set(), outer: innermost(), open: true }
  const before = current
  current = frame
  let result: T
  try {
    result = fn()
  } catch (error) {
    close(frame, undefined)
    throw error
  } finally {
    current = before
  }
  if (types.isPromise(result)) return closeLater(frame, result) as T
  close(frame, result)
  return result
}

function scopeAsync<T>(fn: () => T): T {
  const frame: Frame = { made: new Set(), outer: innermost(), open: true }
  const before = current
  asynchronous++
  current = undefined
  let pending: T
  try {
    pending = storage.run(frame, fn)
  } finally {
    current = before
  }
  const settled = async () => {
    try {
      return await closeLater(frame, Promise.resolve(pending))
    } finally {
      // Without an async scope promises needn't be tracked, which costs each of them.
      if (--asynchronous === 0) storage.disable()
    }
  }
  return settled() as T
}

async function closeLater(frame: Frame, pending: Promise<unknown>): Promise<unknown> {
  let result: unknown
  try {
    result = await pending
    return result
  } finally {
    close(frame, result)
  }
}

/** Frees what was made, but for the tensors in `result`, which move to the scope outside. */
function close(frame: Frame, result: unknown): void {
  frame.open = false
  const kept = new Set<unknown>()
  try {
    collect(result, kept)
  } finally {
    let outer = frame.outer
    while (outer !== undefined && !outer.open) outer = outer.outer
    for (const tensor of frame.made) {
      if (kept.has(tensor)) outer?.made.add(tensor)
      else tensor.dispose()
    }
  }
}

function collect(result: unknown, found: Set<unknown>): void {
  const open = [result]
  while (open.length > 0) {
    const value = open.pop()
    if (typeof value !== 'object' || value === null || found.has(value) || ArrayBuffer.isView(value)) continue
    found.add(value)
    if (value instanceof Tensor) continue
    if (value instanceof Map || value instanceof Set) for (const item of value.values()) open.push(item)
    else for (const item of Object.values(value)) open.push(item)
  }
}
