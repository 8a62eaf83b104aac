// SPDX-License-Identifier: Apache-2.0

/** What repeated measurements of one thing came to. */
export interface Summary {
  readonly median: number
  readonly least: number
  readonly most: number
  readonly samples: number
}

/** The middle value; of an even number of values the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length / 2
  const upper = sorted[Math.floor(middle)] ?? Number.NaN
  return Number.isInteger(middle) ? ((sorted[middle - 1] ?? Number.NaN) + upper) / 2 : upper
}

export function summarize(values: readonly number[]): Summary {
  return {
    median: median(values),
    least: Math.min(...values),
    most: Math.max(...values),
    samples: values.length,
  }
}

/** Nanoseconds that `repeat` calls of `body` take, each. */
export function nanoseconds(body: () => void, repeat: number): number {
  const start = process.hrtime.bigint()
  for (let i = 0; i < repeat; i++) body()
  return Number(process.hrtime.bigint() - start) / repeat
}

/** How often `body` has to be called to take about `targetMs`; calls it, which also warms it up. */
export function calibrate(body: () => void, targetMs: number): number {
  let repeat = 1
  for (;;) {
    const ns = nanoseconds(body, repeat)
    if (ns * repeat >= targetMs * 1e6 * 0.5) return Math.max(1, Math.round((targetMs * 1e6) / ns))
    repeat *= ns * repeat > 0 ? Math.min(16, Math.max(2, Math.ceil((targetMs * 1e6) / (ns * repeat)))) : 16
  }
}
