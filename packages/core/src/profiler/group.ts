// SPDX-License-Identifier: Apache-2.0
import type { ProfileRow } from './record'
import { addRows } from './rows'
import type { ViewNode } from './view'

/**
 * - `name`: ops by name, modules by class, kernels by name
 * - `shape`: the same, by types and shapes too
 * - `class`: everything by the class of the module that it belongs to
 * - `kernel`: kernels by name; everything else in one row
 */
export const GROUPS = ['name', 'shape', 'class', 'kernel'] as const

/** By what rows are grouped. */
export type GroupBy = (typeof GROUPS)[number]

/** The row of everything that is no kernel. */
const HOST = '(host)'

/**
 * One row for all that have something in common. Self times add up to the phase's; totals are those of a group's outermost rows, so
 * that what calls itself counts once.
 */
export function groupRows(nodes: readonly ViewNode[], by: GroupBy): ViewNode[] {
  const groups = new Map<string, ProfileRow>()
  const visit = (node: ViewNode, owner: ProfileRow | undefined, inside: ReadonlySet<string>): void => {
    const { row } = node
    const isOwner = row.kind === 'module' || (row.kind === 'other' && row.parent === null)
    const module = isOwner ? row : owner
    const identity = groupOf(row, module, by)
    const key = JSON.stringify(identity)
    const counts = by !== 'class' || isOwner
    const outermost = !inside.has(key)
    const zero = { total_cpu_us: 0, total_device_us: 0, launches: 0, flops: 0, bytes: 0, allocated_bytes: 0 }
    const none = { calls: 0, histogram: [], min_us: 0, max_us: 0, p50_us: 0, p95_us: 0 }
    const part = { ...row, ...identity, ...(outermost ? {} : zero), ...(counts ? {} : none), parent: null }
    const known = groups.get(key)
    groups.set(key, known ? addRows(known, part) : part)
    const within = outermost ? new Set([...inside, key]) : inside
    for (const child of node.children) visit(child, module, within)
  }
  for (const node of nodes) visit(node, undefined, new Set())
  return [...groups.values()].map((row, id) => ({ row: { ...row, id }, layers: 1, children: [] }))
}

type Identity = Pick<ProfileRow, 'kind' | 'name' | 'path' | 'weight' | 'device' | 'shapes' | 'dtypes'>

function groupOf(row: ProfileRow, owner: ProfileRow | undefined, by: GroupBy): Identity {
  const { kind, name, device, shapes, dtypes } = row
  const plain = { path: '', weight: null, device, shapes: [], dtypes: [] }
  if (by === 'shape') return { ...plain, kind, name, shapes, dtypes }
  if (by === 'name') return { ...plain, kind, name }
  if (by === 'kernel') {
    return kind === 'kernel'
      ? { ...plain, kind, name }
      : { ...plain, kind: 'other', name: HOST, device: 'cpu' }
  }
  return { ...plain, kind: owner?.kind ?? kind, name: owner?.name ?? name, device: 'cpu' }
}
