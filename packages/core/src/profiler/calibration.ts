// SPDX-License-Identifier: Apache-2.0

/** Nanoseconds that recording one call costs. */
export interface CallCost {
  /** Between the call's recorded start and end: it would count as the call's own time. */
  inside: number
  /** Before the start and after the end: it would count as the time of whatever encloses the call. */
  outside: number
}

/** What recording costs. */
export interface RecordingCost {
  scope: CallCost
  op: CallCost
}

/** What the addon measures when a profile starts, in nanoseconds. */
export interface Calibration {
  /** A small op, from one call to the next, while nothing is recorded. */
  op: number
  /** The same op recorded. */
  recordedOp: number
  /** An empty scope, recorded. */
  recordedScope: number
}

/** Label of the scopes that a calibration opens: one around it, and empty ones inside. */
export const CALIBRATION_LABEL = 'vllm-ops: calibration'

/** Label of the scope that stands for the time in which a thread worked out what it had recorded. */
export const WORKED_OUT_LABEL = 'vllm-ops: recording'

/**
 * The cost of recording. An op's start and end are read right beside its kernel, so that all of it lies outside; of an
 * empty scope the duration that was recorded lies inside. Medians, since any one may be interrupted.
 *
 * @param scopes the recorded durations of empty scopes
 */
export function recordingCost(
  { op, recordedOp, recordedScope }: Calibration,
  scopes: number[],
): RecordingCost {
  const inside = scopes.sort((a, b) => a - b)[scopes.length >> 1] ?? 0
  return {
    scope: { inside, outside: Math.max(0, recordedScope - inside) },
    op: { inside: 0, outside: Math.max(0, recordedOp - op) },
  }
}
