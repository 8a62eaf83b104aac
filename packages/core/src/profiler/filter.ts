// SPDX-License-Identifier: Apache-2.0
import { shareOf } from './columns'
import { describeArguments } from './labels'
import { ACCOUNTING_ROWS, type ProfilePhase, type ProfileRow } from './record'
import { addRows } from './rows'
import type { ViewNode } from './view'

interface FilterOptions {
  minShare?: number | undefined
  match?: RegExp | undefined
}

const ACCOUNTING: readonly string[] = Object.values(ACCOUNTING_ROWS)

/** Leaves rows out. What they took stays: siblings that are not shown become one row that says how many. */
export function filterView(
  nodes: readonly ViewNode[],
  phase: ProfilePhase,
  { minShare, match }: FilterOptions,
): ViewNode[] {
  let shown = [...nodes]
  if (match) shown = hide(shown, markMatches(shown, match))
  if (minShare !== undefined) {
    shown = hide(
      shown,
      markAll(shown, ({ row }) => isAccounting(row) || shareOf(row, phase) >= minShare),
    )
  }
  return shown
}

function isAccounting({ parent, name }: ProfileRow): boolean {
  return parent === null && ACCOUNTING.includes(name)
}

/** Rows that match, with all above and all below them. */
function markMatches(nodes: readonly ViewNode[], match: RegExp): Set<ViewNode> {
  const kept = new Set<ViewNode>()
  // A global or sticky pattern would go on where it found something last.
  const pattern = new RegExp(match.source, match.flags.replace(/[gy]/g, ''))
  const visit = (node: ViewNode, inside: boolean): boolean => {
    const { name, path, dtypes, shapes } = node.row
    const self = inside || pattern.test(`${name} ${path} ${describeArguments(dtypes, shapes)}`)
    let any = self
    for (const child of node.children) any = visit(child, self) || any
    if (any || isAccounting(node.row)) kept.add(node)
    return any
  }
  for (const node of nodes) visit(node, false)
  return kept
}

function markAll(nodes: readonly ViewNode[], keep: (node: ViewNode) => boolean): Set<ViewNode> {
  const kept = new Set<ViewNode>()
  const visit = (node: ViewNode): void => {
    if (keep(node)) kept.add(node)
    for (const child of node.children) visit(child)
  }
  for (const node of nodes) visit(node)
  return kept
}

function hide(nodes: readonly ViewNode[], kept: ReadonlySet<ViewNode>): ViewNode[] {
  const shown: ViewNode[] = []
  const hidden: ViewNode[] = []
  for (const node of nodes) {
    if (kept.has(node)) shown.push({ ...node, children: hide(node.children, kept) })
    else hidden.push(node)
  }
  if (hidden.length === 0) return shown
  // Of a tree a row's total is the self times below it; of groups, totals overlap and only self times add up.
  const rows = hidden.map((node) => {
    const self_cpu_us = selfTime(node, 'self_cpu_us')
    const self_device_us = selfTime(node, 'self_device_us')
    const totals = { total_cpu_us: self_cpu_us, total_device_us: self_device_us }
    return { ...node.row, self_cpu_us, self_device_us, ...totals }
  })
  const sum = rows.reduce(addRows)
  const name = `(${hidden.length} ${hidden.length === 1 ? 'row' : 'rows'} not shown)`
  const nothing = { path: '', weight: null, device: 'cpu', shapes: [], dtypes: [] }
  const row = { ...sum, ...nothing, kind: 'other' as const, name }
  return [...shown, { row, layers: 1, children: [] }]
}

function selfTime({ row, children }: ViewNode, field: 'self_cpu_us' | 'self_device_us'): number {
  return children.reduce((sum, child) => sum + selfTime(child, field), row[field])
}
