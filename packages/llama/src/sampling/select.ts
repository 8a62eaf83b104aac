// SPDX-License-Identifier: Apache-2.0

/** The indices of the `k` greatest values, greatest first; of equal ones the lower index comes first. NaN counts as least. */
export function topIndices(values: Float32Array, k: number): number[] {
  const threshold = kthGreatest(values, k)
  const above: number[] = []
  const equal: number[] = []
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!
    if (value > threshold) above.push(i)
    else if (value === threshold && equal.length < k) equal.push(i)
  }
  above.sort((a, b) => values[b]! - values[a]! || a - b)
  return [...above, ...equal.slice(0, k - above.length)]
}

/** The `k`-th greatest value (1 is the greatest) by quickselect. */
function kthGreatest(values: Float32Array, k: number): number {
  const a = values.slice()
  for (let i = 0; i < a.length; i++) if (Number.isNaN(a[i]!)) a[i] = Number.NEGATIVE_INFINITY
  const target = k - 1
  let low = 0
  let high = a.length - 1
  while (low < high) {
    const pivot = medianOfThree(a[low]!, a[(low + high) >> 1]!, a[high]!)
    let i = low
    let j = high
    while (i <= j) {
      while (a[i]! > pivot) i++
      while (a[j]! < pivot) j--
      if (i > j) break
      const swapped = a[i]!
      a[i++] = a[j]!
      a[j--] = swapped
    }
    // Now everything up to j is at least the pivot and everything from i on is at most the pivot.
    if (target <= j) high = j
    else if (target >= i) low = i
    else return pivot
  }
  return a[target]!
}

function medianOfThree(a: number, b: number, c: number): number {
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c))
}
