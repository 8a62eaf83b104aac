// SPDX-License-Identifier: Apache-2.0
import { capture, Event, empty, synchronizeSync, torch } from '@vllm-ops/core'
import { copyBandwidth } from '../device-time'
import { type Summary, summarize } from '../statistics'

/** Where everything here runs. */
export const DEVICE = 'cuda'

/** Calls of a graph take about this long, so that starting it is nothing against them. */
const GRAPH_US = 2000
const LEAST_CALLS = 20
const MOST_CALLS = 2000

/** What calls use in turn adds up to this, several times what the L2 caches hold. */
const OUT_OF_CACHE_BYTES = 512 << 20

/** How many sets of arguments of so many bytes each it takes for none to be in a cache when its turn comes. */
export function setsFor(bytes: number): number {
  return Math.min(64, Math.max(2, Math.ceil(OUT_OF_CACHE_BYTES / Math.max(bytes, 1))))
}

/**
 * Microseconds that a call takes on the device: `calls` are captured in turn into a CUDA graph, which is replayed between two events, so
 * the host has no part in it. Each sample is one replay.
 */
export function microseconds(calls: readonly (() => void)[], rounds: number): Summary {
  const once = () => {
    for (const call of calls) call()
  }
  once()
  synchronizeSync(DEVICE)
  using start = new Event({ device: DEVICE, timing: true })
  using end = new Event({ device: DEVICE, timing: true })
  const timed = (body: () => void): number => {
    start.record()
    body()
    end.record()
    end.synchronizeSync()
    return start.elapsedTime(end) * 1000
  }
  const estimate = Math.min(timed(once), timed(once)) / calls.length
  const wanted = Math.min(MOST_CALLS, Math.max(LEAST_CALLS, GRAPH_US / estimate))
  const repeats = Math.ceil(wanted / calls.length)
  using graph = capture(
    () => {
      for (let i = 0; i < repeats; i++) once()
    },
    { device: DEVICE },
  )
  for (let i = 0; i < 2; i++) timed(() => graph.replay())
  const samples = Array.from({ length: rounds }, () => timed(() => graph.replay()))
  return summarize(samples.map((us) => us / (repeats * calls.length)))
}

/** Microseconds of a copy on the device that reads and writes `bytes` in all. */
export function copyMicroseconds(bytes: number, rounds: number): number {
  const half = Math.max(1, Math.ceil(bytes / 2))
  const pairs = Array.from({ length: setsFor(bytes) }, () => ({
    from: empty([half], { dtype: 'uint8', device: DEVICE }),
    to: empty([half], { dtype: 'uint8', device: DEVICE }),
  }))
  try {
    for (const { from } of pairs) torch.aten.fill_(from, 1)
    return microseconds(
      pairs.map(
        ({ from, to }) =>
          () =>
            void torch.aten.copy_(to, from),
      ),
      rounds,
    ).median
  } finally {
    for (const { from, to } of pairs) {
      from.dispose()
      to.dispose()
    }
  }
}

/** What figures are held against: measured once in a run. */
export interface Baseline {
  /** GB/s, read and written, of the fastest large copy on the device. */
  readonly copyBandwidth: number
  /** Microseconds from one kernel that does next to nothing to the next: `aten::fill_` of one element. */
  readonly emptyLaunch: number
}

export function baseline(rounds: number): Baseline {
  const tiny = empty([1], { device: DEVICE })
  try {
    return {
      copyBandwidth: copyBandwidth(DEVICE, rounds),
      emptyLaunch: microseconds([() => void torch.aten.fill_(tiny, 1)], rounds).median,
    }
  } finally {
    tiny.dispose()
  }
}
