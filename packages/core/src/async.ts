// SPDX-License-Identifier: Apache-2.0
//
// Ops on a thread of libuv's pool. csrc/async.cpp has the other half.
import { AsyncResource } from 'node:async_hooks'
import { inspect } from 'node:util'
import { values } from './encoding'
import { ArgumentError } from './errors'
import { native, onStart } from './native'
import {
  failureOf,
  type OpArgument,
  type OpOptions,
  type OpOverload,
  outputsOf,
  overloadOf,
  prepareCall,
  takeAll,
} from './operator'
import type { Tensor } from './tensor'
import type { OpOverloadPacket } from './torch'

/** How a call runs elsewhere. */
export interface CallAsyncOptions {
  /** Takes the call back while it waits for a thread; one that runs is finished. */
  readonly signal?: AbortSignal | undefined
}

interface PendingCall {
  readonly overload: OpOverload
  readonly args: readonly unknown[]
  readonly resource: AsyncResource
  readonly signal: AbortSignal | undefined
  readonly abort: () => void
  readonly resolve: (result: unknown) => void
  readonly reject: (error: unknown) => void
}

const CANCELLED = -2
const pending = new Map<number, PendingCall>()
let nextCall = 1

onStart((addon) => addon.onFinish(finish))

/**
 * Calls an op on a thread of libuv's pool (`UV_THREADPOOL_SIZE`, 4 by default), for long work on the CPU: JavaScript goes on meanwhile.
 * Arguments are read and checked before `callAsync` returns, and kept alive: they may be disposed at once, and what is done to their
 * sizes meanwhile the op does not see. To their elements it does: writing what a running op reads gives either's values. The memory of
 * the tensors can't be resized from then on. The result belongs to the `scope` that the call was made in. On an accelerator the op queues
 * its work on the stream that is current where `callAsync` is called.
 *
 * @param op a function of `ops` or `torch`, or the full name of an op: `aten::mm`
 * @param args its arguments; keyword arguments come last, as an object
 * @returns what the op returns. Rejected with the errors of the op itself, or with the signal's reason if the signal came first
 * @throws {ArgumentError} (as a rejection) also for tensors over memory of JavaScript (`fromTypedArray`), which could be transferred
 *   away while the op runs, and for ops whose kernel is a JavaScript function
 */
export function callAsync<R = Tensor>(
  op: OpOverload | OpOverloadPacket | string,
  args: readonly (OpArgument | OpOptions)[],
  options?: CallAsyncOptions,
): Promise<R>
export function callAsync<A extends readonly unknown[], R>(
  op: (...args: A) => R,
  args: A,
  options?: CallAsyncOptions,
): Promise<R>
export async function callAsync(
  op: unknown,
  args: readonly unknown[],
  { signal }: CallAsyncOptions = {},
): Promise<unknown> {
  if (!Array.isArray(args))
    throw new ArgumentError('callAsync', 'args', 'an array of arguments', inspect(args))
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new ArgumentError('callAsync', 'signal', 'an AbortSignal', inspect(signal, { depth: 0 }))
  signal?.throwIfAborted()
  const id = nextCall++
  const [overload, given] = start(id, overloadsOf(op), args)
  return await new Promise((resolve, reject) => {
    const abort = () => native().cancelCall(id)
    signal?.addEventListener('abort', abort, { once: true })
    const resource = new AsyncResource('vllm-ops.callAsync')
    pending.set(id, { overload, args: given, resource, signal, abort, resolve, reject })
  })
}

/** Starts the first overload that takes the arguments, as a plain call of a packet does. */
function start(
  id: number,
  overloads: readonly OpOverload[],
  args: readonly unknown[],
): [OpOverload, readonly unknown[]] {
  const last = args.at(-1)
  const named = typeof last === 'object' && last !== null ? Object.keys(last) : []
  // As a packet does: an out variant answers to the name of its output, and to nothing else.
  const chosen = overloads.filter((overload) => outputsOf(overload).some((name) => named.includes(name)))
  const plain = overloads.filter((overload) => outputsOf(overload).length === 0)
  const refusals: ArgumentError[] = []
  for (const overload of chosen.length > 0 ? chosen : plain.length > 0 ? plain : overloads) {
    try {
      const given = prepareCall(overload, args)
      native().startCall(id)
      if (values[0]! < 0) throw failureOf(native(), overload.schema)
      return [overload, given]
    } catch (error) {
      if (!(error instanceof ArgumentError) || error.op !== overload.opName) throw error
      refusals.push(error)
    }
  }
  if (refusals.length === 1) throw refusals[0]
  throw new ArgumentError(
    overloads[0]!.opName.split('.')[0]!,
    '',
    'the arguments of one of its overloads',
    `${args.length} that fit none`,
    { detail: refusals.map(({ message }) => `\n  ${message}`).join('') },
  )
}

function overloadsOf(op: unknown): readonly OpOverload[] {
  if (typeof op === 'string') return [overloadOf(op)]
  if (isOverload(op)) return [op]
  const overloads = typeof op === 'function' ? Object.values(op).filter(isOverload) : []
  if (overloads.length > 0) return overloads
  throw new ArgumentError('callAsync', 'op', 'an op of ops or torch, or its name', inspect(op, { depth: 0 }))
}

function isOverload(value: unknown): value is OpOverload {
  return typeof value === 'function' && 'opName' in value
}

/** Called by the addon when a call is through: its number stands in values[1], its results as those of any call. */
function finish(): void {
  const results = values[0]!
  const id = values[1]!
  const call = pending.get(id)
  if (!call) return
  const { overload, args, resource, signal, abort, resolve, reject } = call
  pending.delete(id)
  try {
    if (results === CANCELLED) reject(signal?.reason)
    else if (results < 0) reject(failureOf(native(), overload.schema))
    else resolve(resource.runInAsyncScope(takeAll, undefined, results, args))
  } catch (error) {
    reject(error)
  } finally {
    signal?.removeEventListener('abort', abort)
    resource.emitDestroy()
  }
}
