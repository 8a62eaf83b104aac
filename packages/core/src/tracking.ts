// SPDX-License-Identifier: Apache-2.0
//
// Where tensors were made, for those who look for the ones that were forgotten. Off, it costs a comparison a tensor.
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { native } from './native'

/** The stack of each live tensor that was made while tracking was on, by its handle. */
let stacks: Map<number, string> | undefined
let sweepAt = 0

/** Frames of this package say nothing about who made a tensor. */
const OWN = dirname(fileURLToPath(import.meta.url))
const MOST_FRAMES = 30
const SHOWN_FRAMES = 8

/** Turns tracking on or off; off forgets what was noted. */
export function setTracking(on: boolean): void {
  if (!on) stacks = undefined
  else if (stacks === undefined) {
    stacks = new Map()
    sweepAt = 1024
  }
}

/** Notes where the tensor of a new handle was made. */
export function noteMade(handle: number): void {
  if (stacks === undefined) return
  if (stacks.size >= sweepAt) sweep(stacks)
  stacks.set(handle, stackHere())
}

/** Forgets a tensor that was disposed. */
export function noteDisposed(handle: number): void {
  if (stacks !== undefined) stacks.delete(handle)
}

/** Where the tensor of a handle was made, where that was noted. */
export function madeAt(handle: number): string | undefined {
  return stacks?.get(handle)
}

/** Collected tensors say nothing when they go. */
function sweep(noted: Map<number, string>): void {
  const live = new Set(native().liveHandles())
  for (const handle of noted.keys()) if (!live.has(handle)) noted.delete(handle)
  sweepAt = Math.max(1024, 2 * noted.size)
}

function stackHere(): string {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = MOST_FRAMES
  const { stack = '' } = new Error()
  Error.stackTraceLimit = limit
  const frames = stack.split('\n').slice(1)
  const outside = frames.filter((frame) => !frame.includes(OWN))
  return (outside.length > 0 ? outside : frames)
    .slice(0, SHOWN_FRAMES)
    .map((frame) => frame.trim().replace(/^at /, ''))
    .join('\n')
}

if (process.env.VLLM_OPS_DEBUG_TENSORS === '1') setTracking(true)
