// SPDX-License-Identifier: Apache-2.0
// What of a phase is shown. A view leaves rows out, but never time: what is hidden is in the row above it.
import { type ProfilePhase, type ProfileRow, rowKey } from './record'
import { addRows } from './rows'

/** A row to show, and what is shown below it. */
export interface ViewNode {
  row: ProfileRow
  /** How many repeated layers the row stands for. */
  layers: number
  /** The quickest and the slowest of these layers, with what they took: device time where there is any, else host time. */
  spread?: { fastest: LayerTime; slowest: LayerTime }
  children: ViewNode[]
}

/** What one of several layers took in all. */
export interface LayerTime {
  /** Its path from where the layers differ: `layers.17`. */
  path: string
  us: number
}

export interface ViewOptions {
  /** Shows repeated layers (`layers.0`, `layers.1`, …) as one row with their sums. */
  fold?: boolean | undefined
  /** Levels of rows to show, the top level being 1. */
  depth?: number | undefined
  /** Levels of ops to show below a module, as an op such as aten::linear calls others. Kernels stay. */
  opDepth?: number | undefined
}

/** The rows of `phase` as a tree, with what `options` ask for. */
export function viewPhase(phase: ProfilePhase, options: ViewOptions = {}): ViewNode[] {
  const nodes = phase.rows.map((row): ViewNode => ({ row, layers: 1, children: [] }))
  for (const node of nodes) {
    if (node.row.parent !== null) nodes[node.row.parent]!.children.push(node)
  }
  let top = nodes.filter((node) => node.row.parent === null)
  if (options.opDepth !== undefined) top = top.map((node) => limitOps(node, options.opDepth!))
  if (options.fold) top = foldLayers(top)
  return options.depth === undefined ? top : top.map((node) => limitDepth(node, options.depth!))
}

function limitDepth(node: ViewNode, depth: number): ViewNode {
  if (depth > 1) return { ...node, children: node.children.map((child) => limitDepth(child, depth - 1)) }
  const { total_cpu_us, total_device_us } = node.row
  const row = { ...node.row, self_cpu_us: total_cpu_us, self_device_us: total_device_us }
  return { ...node, row, children: [] }
}

function limitOps(node: ViewNode, depth: number, left = depth): ViewNode {
  if (node.row.kind !== 'op') {
    return { ...node, children: node.children.map((child) => limitOps(child, depth)) }
  }
  if (left > 1) return { ...node, children: node.children.map((child) => limitOps(child, depth, left - 1)) }
  const row = { ...node.row, self_cpu_us: node.row.total_cpu_us }
  return { ...node, row, children: mergeEqual(node.children.flatMap(kernelsBelow)) }
}

function kernelsBelow(node: ViewNode): ViewNode[] {
  return node.row.kind === 'kernel' ? [node] : node.children.flatMap(kernelsBelow)
}

/** Merges sibling modules that are the same but for the number at the end of their paths. */
function foldLayers(nodes: readonly ViewNode[]): ViewNode[] {
  const groups = new Map<string, ViewNode[]>()
  for (const node of nodes) {
    const pattern = layerPattern(node.row)
    const key = pattern === undefined ? `row ${node.row.id}` : rowKey({ ...node.row, path: pattern })
    groups.set(key, [...(groups.get(key) ?? []), node])
  }
  const folded: ViewNode[] = []
  for (const group of groups.values()) {
    const [first] = group
    if (group.length === 1) {
      folded.push({ ...first!, children: foldLayers(first!.children) })
      continue
    }
    const to = layerPattern(first!.row)!
    const merged = mergeEqual(group.map((node) => movePath(node, node.row.path, to)))
    const spread = spreadOf(group)
    folded.push(
      ...merged.map((node) => ({
        ...{ ...node, layers: group.length, spread },
        children: foldLayers(node.children),
      })),
    )
  }
  return folded
}

function spreadOf(group: readonly ViewNode[]): { fastest: LayerTime; slowest: LayerTime } {
  const times = group.map(({ row }): LayerTime => {
    const path = row.path.split('.').slice(-2).join('.')
    return { path, us: row.total_device_us > 0 ? row.total_device_us : row.total_cpu_us }
  })
  times.sort((a, b) => a.us - b.us)
  return { fastest: times[0]!, slowest: times.at(-1)! }
}

/** `model.layers.*` for the module at `model.layers.7`; undefined for what is no numbered module. */
function layerPattern({ kind, path }: ProfileRow): string | undefined {
  return kind === 'module' && /(^|\.)\d+$/.test(path) ? path.replace(/\d+$/, '*') : undefined
}

function movePath(node: ViewNode, from: string, to: string): ViewNode {
  const path = to + node.row.path.slice(from.length)
  return {
    ...node,
    row: { ...node.row, path },
    children: node.children.map((child) => movePath(child, from, to)),
  }
}

/** Adds up equal siblings, and so on below them. */
function mergeEqual(nodes: readonly ViewNode[]): ViewNode[] {
  const merged = new Map<string, ViewNode>()
  for (const node of nodes) {
    const key = rowKey(node.row)
    const equal = merged.get(key)
    merged.set(key, equal ? add(equal, node) : node)
  }
  return [...merged.values()].map((node) => ({ ...node, children: mergeEqual(node.children) }))
}

function add(a: ViewNode, b: ViewNode): ViewNode {
  return { row: addRows(a.row, b.row), layers: a.layers, children: [...a.children, ...b.children] }
}
