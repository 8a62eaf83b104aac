// SPDX-License-Identifier: Apache-2.0
import type { Summary } from '../statistics'

/** What a row was measured at, in ns. */
export interface Figures {
  /** The call makes a tensor, which the loop disposes. */
  readonly makesTensor: boolean
  readonly boxed: Summary
  readonly javascript: Summary
  readonly python: { readonly least: number; readonly median: number } | undefined
  /** Bytes on the JavaScript heap per call. */
  readonly heap: number
}

/** One demand on a row. */
export interface Target {
  readonly what: string
  readonly most: number
  readonly measured: number
  readonly met: boolean
}

// A Node-API call that reads its three arguments: what a binding without an argument buffer pays at least.
const CROSSING = 28
const OVERHEAD = 1.3
const NEW_TENSOR = 500
const PYTHON_SHARE = 0.5
// One object of any kind would be 12 bytes or more.
const NO_HEAP = 1

/**
 * What a row has to keep: beside the C++ loop of the same run, beside Python, and on the heap. The least of all rounds counts on every
 * side: what else runs on a machine only ever adds.
 */
export function targetsOf({ makesTensor, boxed, javascript, python, heap }: Figures): Target[] {
  const target = (what: string, most: number, measured: number): Target => ({
    what,
    most,
    measured,
    met: measured <= most,
  })
  const targets = makesTensor
    ? [target(`C++ + ${NEW_TENSOR}`, boxed.least + NEW_TENSOR, javascript.least)]
    : [
        target(`${OVERHEAD} × (C++ + ${CROSSING})`, OVERHEAD * (boxed.least + CROSSING), javascript.least),
        target('no heap', NO_HEAP, heap),
      ]
  if (python !== undefined)
    targets.push(target(`${PYTHON_SHARE} × Python`, PYTHON_SHARE * python.least, javascript.least))
  return targets
}
