// SPDX-License-Identifier: Apache-2.0
// Kernels of a replayed graph come out of one launch, long after the ops that recorded them. While a graph is captured, its
// launches are noted with the ops and modules around them; at a replay the k-th kernel belongs to the k-th launch.

import { parseScopeLabel, RESUMED } from './labels'
import { describeCall, type Node } from './node'
import type { RawEvent } from './raw-event'

/** By a graph's number: what stood around each of its launches, outermost first, in the order of the launches. */
export type CapturedGraphs = ReadonlyMap<number, readonly (readonly Node[])[]>

/** Name of the range in which a graph is captured. */
export function captureRange(graph: number): string {
  return `capture of graph ${graph}`
}

/** Name of the range in which a graph is replayed. */
export function replayRange(graph: number): string {
  return `graph ${graph}`
}

const CAPTURE = /^range: capture of graph (\d+)$/
const REPLAY = /^range: graph (\d+)$/
/** Calls of the runtime that put something into a graph that is being captured. */
const LAUNCH = /Launch\w*Kernel|Memcpy|Memset/

/** The launches of every capture among `events`. */
export function capturedGraphs(events: readonly RawEvent[]): Map<number, Node[][]> {
  const graphs = new Map<number, Node[][]>()
  for (const [graph, capture] of ranges(events, CAPTURE)) {
    const inside = events
      .filter((event) => isInside(event, capture) && event.kind !== 'kernel' && event.kind !== 'memory')
      .sort((a, b) => a.start - b.start || b.end - a.end)
    const launches: Node[][] = []
    const open: { event: RawEvent; node: Node }[] = []
    for (const event of inside) {
      while (open.length > 0 && open[open.length - 1]!.event.end <= event.start) open.pop()
      if (event.kind === 'runtime') {
        if (LAUNCH.test(event.name)) launches.push(open.map(({ node }) => node))
        continue
      }
      const name = event.name.startsWith(RESUMED) ? event.name.slice(RESUMED.length) : event.name
      const scope = event.kind === 'scope' ? parseScopeLabel(name) : undefined
      const path = open[open.length - 1]?.node.path ?? ''
      if (scope?.kind !== 'phase') open.push({ event, node: describeCall({ ...event, name }, scope, path) })
    }
    graphs.set(graph, launches)
  }
  return graphs
}

/**
 * What each replayed kernel belongs to. Kernels of a replay that has another number of them than its graph has launches
 * are left out: better under the replay than under the wrong op.
 *
 * @param kernels in the order of their start
 * @param before graphs that were captured before the profile
 */
export function attributeReplays(
  events: readonly RawEvent[],
  kernels: readonly RawEvent[],
  before: CapturedGraphs = new Map(),
): Map<RawEvent, readonly Node[]> {
  const graphs = new Map([...before, ...capturedGraphs(events)])
  const attributed = new Map<RawEvent, readonly Node[]>()
  const byLaunch = groupByLaunch(kernels)
  for (const [graph, replay] of ranges(events, REPLAY)) {
    const launches = graphs.get(graph)
    if (!launches) continue
    const calls = events.filter((event) => event.kind === 'runtime' && isInside(event, replay))
    const replayed = calls.flatMap(({ correlation }) => byLaunch.get(correlation) ?? [])
    if (replayed.length !== launches.length) continue
    for (const [i, kernel] of replayed.entries()) attributed.set(kernel, launches[i]!)
  }
  return attributed
}

function groupByLaunch(kernels: readonly RawEvent[]): Map<number, RawEvent[]> {
  const groups = new Map<number, RawEvent[]>()
  for (const kernel of kernels) {
    const group = groups.get(kernel.correlation)
    if (group) group.push(kernel)
    else groups.set(kernel.correlation, [kernel])
  }
  return groups
}

/** The scopes whose label matches, with the graph's number. */
function ranges(events: readonly RawEvent[], label: RegExp): [number, RawEvent][] {
  return events.flatMap((event): [number, RawEvent][] => {
    const match = event.kind === 'scope' ? label.exec(event.name) : null
    return match ? [[Number(match[1]), event]] : []
  })
}

function isInside(event: RawEvent, scope: RawEvent): boolean {
  return (
    event !== scope && event.thread === scope.thread && event.start >= scope.start && event.end <= scope.end
  )
}
