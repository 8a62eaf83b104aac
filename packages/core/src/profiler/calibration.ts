// SPDX-License-Identifier: Apache-2.0
import type { RawEvent } from './raw-event'

/** Nanoseconds that recording one scope costs. */
export interface ScopeCost {
  /** Between the scope's recorded start and end: it would count as the scope's own time. */
  inside: number
  /** Before the start and after the end: it would count as the time of whatever encloses the scope. */
  outside: number
}

/** Label of the empty scopes that {@link scopeCost} reads. */
export const CALIBRATION_LABEL = 'vllm-ops: calibration'
/** Enough for a stable median, and about a tenth of a millisecond in all. */
export const CALIBRATION_SCOPES = 64

/** The cost of a scope, from empty scopes that were recorded back to back. Medians, since any one may be interrupted. */
export function scopeCost(events: readonly RawEvent[]): ScopeCost {
  const empty = events.filter((event) => event.name === CALIBRATION_LABEL).sort((a, b) => a.start - b.start)
  const inside = median(empty.map((event) => event.end - event.start))
  const period = median(empty.slice(1).map((event, i) => event.start - empty[i]!.start))
  return { inside, outside: Math.max(0, period - inside) }
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? 0
}
