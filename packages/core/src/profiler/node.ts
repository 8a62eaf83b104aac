// SPDX-License-Identifier: Apache-2.0
// The rows of a phase while they grow: equal siblings are one node. Times in nanoseconds.
import { addHistogram, count, type Histogram, quantile } from './histogram'
import { type ScopeInfo, torchDtype } from './labels'
import { type ProfileRow, type ProfileRowKind, type RowIdentity, rowKey } from './record'

/** Merged equal siblings. */
export interface Node extends RowIdentity {
  calls: number
  selfCpu: number
  selfDevice: number
  /** Bounds and counts of the calls' durations. */
  least: number
  most: number
  histogram: Histogram
  launches: number
  /** Work of this node's calls themselves, not of what is below. */
  flops: number
  bytes: number
  allocated: number
  peak: number
  children: Map<string, Node>
}

/** A node without calls. */
export function newNode(kind: ProfileRowKind, name: string, path = ''): Node {
  return {
    ...{ kind, name, path, weight: null, device: 'cpu', shapes: [], dtypes: [] },
    ...{ calls: 0, selfCpu: 0, selfDevice: 0, least: Number.POSITIVE_INFINITY, most: 0, histogram: [] },
    ...{ launches: 0, flops: 0, bytes: 0, allocated: 0, peak: 0, children: new Map() },
  }
}

/** What an op or a scope is called by, and the types of its arguments. */
interface Called {
  kind: string
  name: string
  shapes: number[][]
  dtypes: string[]
}

/** The node of an op or scope below a module at `path`. */
export function describeCall(call: Called, scope: ScopeInfo | undefined, path: string): Node {
  if (scope?.kind === 'module') {
    return { ...newNode('module', scope.class, scope.path), weight: scope.weight ?? null }
  }
  if (call.kind === 'scope') return newNode('other', scope?.name ?? call.name, path)
  const node = newNode(call.kind === 'op' ? 'op' : 'other', call.name, path)
  return { ...node, shapes: call.shapes, dtypes: call.dtypes.map(torchDtype) }
}

/** The sibling equal to `node` if there is one, else `node`, which then is one of them. */
export function merge(siblings: Map<string, Node>, node: Node): Node {
  const key = rowKey(node)
  const equal = siblings.get(key)
  if (equal) return equal
  siblings.set(key, node)
  return node
}

/** Books how long one call took. */
export function addDuration(node: Node, nanoseconds: number): void {
  node.least = Math.min(node.least, nanoseconds)
  node.most = Math.max(node.most, nanoseconds)
  count(node.histogram, nanoseconds)
}

/** Books how long many calls took. */
export function addDurations(node: Node, least: number, most: number, histogram: Histogram): void {
  if (histogram.length === 0) return
  node.least = Math.min(node.least, least)
  node.most = Math.max(node.most, most)
  addHistogram(node.histogram, histogram)
}

/** A row's times of one call, but for the mean; the arguments in nanoseconds. */
export function spreadOf(
  histogram: Histogram,
  least: number,
  most: number,
): Pick<ProfileRow, 'p50_us' | 'p95_us' | 'min_us' | 'max_us'> {
  if (histogram.length === 0) return { p50_us: 0, p95_us: 0, min_us: 0, max_us: 0 }
  const at = (q: number) => quantile(histogram, q, least, most) / 1000
  return { p50_us: at(0.5), p95_us: at(0.95), min_us: least / 1000, max_us: most / 1000 }
}

/** Appends `node` and all below it; totals come from the bottom up. */
export function appendRows(rows: ProfileRow[], node: Node, parent: number | null): ProfileRow {
  const { kind, name, path, weight, device, shapes, dtypes, calls } = node
  const self_cpu_us = node.selfCpu / 1000
  const self_device_us = node.selfDevice / 1000
  const row: ProfileRow = {
    ...{ id: rows.length, parent, kind, name, path, weight, device, shapes, dtypes, calls },
    ...{ self_cpu_us, total_cpu_us: self_cpu_us, self_device_us, total_device_us: self_device_us },
    ...{ mean_us: 0, ...spreadOf(node.histogram, node.least, node.most) },
    ...{ histogram: node.histogram, launches: node.launches, flops: node.flops, bytes: node.bytes },
    ...{ allocated_bytes: node.allocated, peak_bytes: node.peak },
  }
  rows.push(row)
  for (const child of node.children.values()) {
    const below = appendRows(rows, child, row.id)
    for (const field of SUMS) row[field] += below[field]
  }
  const total = kind === 'kernel' ? row.total_device_us : row.total_cpu_us
  row.mean_us = calls > 0 ? total / calls : 0
  return row
}

/** Fields of a row that include those of the rows below it. */
export const SUMS = [
  'total_cpu_us',
  'total_device_us',
  'launches',
  'flops',
  'bytes',
  'allocated_bytes',
] as const
