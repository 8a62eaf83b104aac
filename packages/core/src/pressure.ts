// SPDX-License-Identifier: Apache-2.0
//
// Runtimes whose finalizers wait for the event loop to turn: there a synchronous loop that forgets its tensors would take all memory
// there is. They get a warning early, and an error before the system runs out. Elsewhere this costs a comparison a tensor.
import { totalmem } from 'node:os'
import { type Addon, onStart } from './native'

/** How much may be live before the warning. */
const WARN_BYTES = 128 * 2 ** 20
const WARN_TENSORS = 200_000
/** The part of memory that forgotten tensors may take. */
const PART = 0.8

let addon: Addon
let warned = false
let turning = false

/** Whether forgotten tensors are freed late. */
export let freesLate = false

onStart((started) => {
  addon = started
  freesLate = !addon.hasBasicFinalizers() || 'bun' in process.versions || 'deno' in process.versions
  const constrained = process.constrainedMemory?.() ?? 0
  if (freesLate) addon.setHostLimit(PART * (constrained > 0 ? Math.min(constrained, totalmem()) : totalmem()))
})

/** Looks after a new tensor, where forgotten ones are freed late. */
export function watchMemory(): void {
  if (!turning) {
    turning = true
    setImmediate(() => {
      turning = false
      addon.runFinalizers()
    }).unref()
  }
  if (warned) return
  const { allocated } = addon.hostMemory()
  const live = addon.liveTensors()
  if (allocated < WARN_BYTES && live < WARN_TENSORS) return
  warned = true
  process.emitWarning(
    `${live} tensors with ${allocated} bytes are live, and this runtime frees forgotten ones only when the event loop turns: ` +
      'free them by `using`, scope() or dispose()',
    { code: 'VLLM_OPS_LIVE_TENSORS' },
  )
}
