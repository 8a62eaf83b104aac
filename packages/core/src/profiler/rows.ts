// SPDX-License-Identifier: Apache-2.0
import { addHistogram } from './histogram'
import { SUMS, spreadOf } from './node'
import type { ProfileRow } from './record'

/** One row for the calls of two that are equal, or that a view takes for equal; the rest is as in `a`. */
export function addRows(a: ProfileRow, b: ProfileRow): ProfileRow {
  const sum: ProfileRow = {
    ...a,
    calls: a.calls + b.calls,
    self_cpu_us: a.self_cpu_us + b.self_cpu_us,
    self_device_us: a.self_device_us + b.self_device_us,
    peak_bytes: Math.max(a.peak_bytes, b.peak_bytes),
    histogram: [...a.histogram],
  }
  for (const field of SUMS) sum[field] = a[field] + b[field]
  addHistogram(sum.histogram, b.histogram)
  const [least, most] = bounds([a, b].filter(({ histogram }) => histogram.length > 0))
  Object.assign(sum, spreadOf(sum.histogram, least, most))
  const total = sum.kind === 'kernel' ? sum.total_device_us : sum.total_cpu_us
  sum.mean_us = sum.calls > 0 ? total / sum.calls : 0
  return sum
}

/** The least and the most nanoseconds of a call in any of the rows. */
function bounds(rows: readonly ProfileRow[]): [number, number] {
  const least = Math.min(...rows.map(({ min_us }) => min_us * 1000))
  return [least, Math.max(0, ...rows.map(({ max_us }) => max_us * 1000))]
}
