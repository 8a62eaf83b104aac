// SPDX-License-Identifier: Apache-2.0
// Durations counted by logarithm, 32 buckets an octave: a quantile is within 1.6 % of the exact one, whatever the number
// of calls, and histograms of equal rows add up. csrc/profiler_table.cpp counts into the same buckets.

/** `[bucket, count, bucket, count, …]` in any order, each bucket once. */
export type Histogram = number[]

const BITS = 5
const BUCKETS = 1 << BITS

/** The bucket of a duration in nanoseconds; less than one counts as one. */
export function bucketOf(nanoseconds: number): number {
  const value = Math.max(1, Math.floor(nanoseconds))
  // Exact for every integer below 2 ** 53, which log2 alone is not.
  let exponent = Math.floor(Math.log2(value))
  if (2 ** exponent > value) exponent--
  else if (2 ** (exponent + 1) <= value) exponent++
  return exponent * BUCKETS + (Math.floor((value / 2 ** exponent) * BUCKETS) - BUCKETS)
}

/** The smallest duration in a bucket, in nanoseconds. */
export function lowerBound(bucket: number): number {
  return 2 ** Math.floor(bucket / BUCKETS) * (1 + (bucket % BUCKETS) / BUCKETS)
}

/** Counts a duration in nanoseconds. */
export function count(histogram: Histogram, nanoseconds: number): void {
  addCount(histogram, bucketOf(nanoseconds), 1)
}

/** Adds the counts of `other`. */
export function addHistogram(histogram: Histogram, other: Histogram): void {
  for (let i = 0; i < other.length; i += 2) addCount(histogram, other[i]!, other[i + 1]!)
}

function addCount(histogram: Histogram, bucket: number, calls: number): void {
  for (let i = 0; i < histogram.length; i += 2) {
    if (histogram[i] !== bucket) continue
    histogram[i + 1]! += calls
    return
  }
  histogram.push(bucket, calls)
}

/**
 * The duration in nanoseconds that the part `q` (0.95) of the calls does not exceed, by nearest rank; between `least` and
 * `most`, which are exact. 0 without calls.
 */
export function quantile(histogram: Histogram, q: number, least: number, most: number): number {
  const buckets: [number, number][] = []
  let calls = 0
  for (let i = 0; i < histogram.length; i += 2) {
    buckets.push([histogram[i]!, histogram[i + 1]!])
    calls += histogram[i + 1]!
  }
  if (calls === 0) return 0
  buckets.sort(([a], [b]) => a - b)
  let left = Math.ceil(q * calls)
  for (const [bucket, calls] of buckets) {
    left -= calls
    if (left > 0) continue
    const middle = Math.sqrt(lowerBound(bucket) * lowerBound(bucket + 1))
    return Math.min(most, Math.max(least, middle))
  }
  return most
}
