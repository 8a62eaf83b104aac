// SPDX-License-Identifier: Apache-2.0
import type { DevicePeaks } from './record'
import type { ViewNode } from './view'

/** How close a row comes to what its device can do. */
export interface Roofline {
  /** Percent: the time that its work takes at the device's peaks, of the time that it took. */
  percent: number
  /** What the least time would go into: `memory`, `compute`, or `launch` where merely calling takes longer than either. */
  verdict: 'memory' | 'compute' | 'launch'
}

/** Least seconds for a row's work. */
interface Least {
  memory: number
  compute: number
  /** By op the larger of both, summed up. */
  work: number
  /** Calls that do the work. */
  calls: number
}

/**
 * By the peaks of the device that ran the row; undefined for a row without known work, or on a device that was not measured. The work
 * of a row is that of all ops below it, each for itself.
 */
export function rooflineOf(
  node: ViewNode,
  peaks: Readonly<Record<string, DevicePeaks>>,
): Roofline | undefined {
  const { row } = node
  const onDevice = row.total_device_us > 0
  const names = Object.keys(peaks)
  const device = onDevice ? names.find((name) => name !== 'cpu') : 'cpu'
  const peak = device === undefined ? undefined : peaks[device]
  const seconds = (onDevice ? row.total_device_us : row.total_cpu_us) / 1e6
  if (!peak || seconds <= 0 || row.kind === 'kernel') return undefined
  const { memory, compute, work, calls } = leastOf(node, peak)
  if (work <= 0) return undefined
  const launch = onDevice ? row.total_cpu_us > row.total_device_us : (calls * peak.call_us) / 1e6 > work
  const verdict = launch ? 'launch' : compute > memory ? 'compute' : 'memory'
  return { percent: (100 * work) / seconds, verdict }
}

function leastOf(node: ViewNode, peak: DevicePeaks): Least {
  const { row, children } = node
  const sum = { memory: 0, compute: 0, work: 0, calls: 0 }
  let { flops, bytes } = row
  for (const child of children) {
    const below = leastOf(child, peak)
    for (const field of ['memory', 'compute', 'work', 'calls'] as const) sum[field] += below[field]
    flops -= child.row.flops
    bytes -= child.row.bytes
  }
  // What is left after subtracting is the row's own, or a rounding error.
  if (flops <= 0 && bytes <= 0) return sum
  const dtype = row.dtypes.find((dtype) => peak.flops_per_s[dtype] !== undefined)
  const rates = Object.values(peak.flops_per_s)
  const flopsPerSecond = dtype === undefined ? Math.max(0, ...rates) : peak.flops_per_s[dtype]!
  const compute = flopsPerSecond > 0 ? Math.max(0, flops) / flopsPerSecond : 0
  const memory = Math.max(0, bytes) / peak.bytes_per_s
  sum.compute += compute
  sum.memory += memory
  sum.work += Math.max(compute, memory)
  sum.calls += row.calls
  return sum
}
