// SPDX-License-Identifier: Apache-2.0
// When the devices worked, from the kernels of a phase and the calls that launched them.
import type { RawEvent } from './raw-event'
import type { DeviceTimeline } from './record'

/**
 * What each device did between its first and last kernel.
 *
 * @param launches the calls of the host by their correlation
 */
export function deviceTimelines(
  kernels: readonly RawEvent[],
  launches: ReadonlyMap<number, RawEvent>,
): DeviceTimeline[] {
  const devices = new Map<string, RawEvent[]>()
  for (const kernel of kernels) {
    const those = devices.get(kernel.device)
    if (those) those.push(kernel)
    else devices.set(kernel.device, [kernel])
  }
  return [...devices].map(([device, those]) => timelineOf(device, those, launches))
}

function timelineOf(
  device: string,
  kernels: RawEvent[],
  launches: ReadonlyMap<number, RawEvent>,
): DeviceTimeline {
  kernels.sort((a, b) => a.start - b.start)
  let busy = 0
  let gaps = 0
  let longest = 0
  let behind = 0
  let until = kernels[0]!.start
  for (const kernel of kernels) {
    const gap = kernel.start - until
    if (gap > 0) {
      gaps++
      longest = Math.max(longest, gap)
      // The device waited for the host from the end of its work to the end of the call that gave it more.
      const launched = launches.get(kernel.correlation)?.end ?? until
      behind += Math.max(0, Math.min(launched, kernel.start) - until)
    }
    busy += Math.max(0, kernel.end - Math.max(kernel.start, until))
    until = Math.max(until, kernel.end)
  }
  const overlap = overlapOf(kernels)
  const delays = kernels.flatMap(({ start, correlation }) => {
    const launch = launches.get(correlation)
    return launch ? [start - launch.start] : []
  })
  const span = until - kernels[0]!.start
  return {
    device,
    ...{ span_us: span / 1000, busy_us: busy / 1000, idle_us: (span - busy) / 1000 },
    ...{ gaps, longest_gap_us: longest / 1000, host_behind_us: behind / 1000, overlap_us: overlap / 1000 },
    launches: new Set(kernels.map(({ correlation }) => correlation)).size,
    streams: new Set(kernels.map(({ stream }) => stream)).size,
    launch_delay_us: (delays.sort((a, b) => a - b)[delays.length >> 1] ?? 0) / 1000,
  }
}

/** Nanoseconds in which kernels of more than one stream ran. */
function overlapOf(kernels: readonly RawEvent[]): number {
  const changes = kernels.flatMap(({ start, end, stream }) => [
    { time: start, stream, by: 1 },
    { time: end, stream, by: -1 },
  ])
  changes.sort((a, b) => a.time - b.time || a.by - b.by)
  const running = new Map<number, number>()
  let overlap = 0
  let since = 0
  for (const { time, stream, by } of changes) {
    if (running.size > 1) overlap += time - since
    since = time
    const now = (running.get(stream) ?? 0) + by
    if (now > 0) running.set(stream, now)
    else running.delete(stream)
  }
  return overlap
}
