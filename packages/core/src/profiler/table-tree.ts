// SPDX-License-Identifier: Apache-2.0
// From the tables that the addon kept while it recorded to the rows of each phase: the same rows as out of events.
import { CALIBRATION_LABEL, type RecordingCost, WORKED_OUT_LABEL } from './calibration'
import { costOf } from './costs'
import { lowerBound } from './histogram'
import { parseScopeLabel } from './labels'
import { addDurations, describeCall, type Node } from './node'
import { PhaseTree } from './phase-tree'
import type { RawNode, RawTable } from './raw-table'
import type { ProfilePhase } from './record'

export interface TableInput {
  tables: readonly RawTable[]
  /** The scope around everything profiled: the only phase if none was marked inside. */
  root: { label: string; name: string }
  /** Nanoseconds in which the event loop waited, by the label of the phase. */
  idle: ReadonlyMap<string, number>
  cost: RecordingCost
}

/** A node with those that it called. */
interface Linked extends RawNode {
  called: Linked[]
}

/** The phases of a profile with their rows, in the order in which they first ran. */
export function phasesOfTables(input: TableInput): ProfilePhase[] {
  const threads = input.tables.map(link)
  const main = threads.find((root) => root.called.some(({ name }) => name === input.root.label))
  const whole = main?.called.find(({ name }) => name === input.root.label)
  if (!main || !whole) return []
  const marked = whole.called.filter((node) => isPhase(node))
  const windows = marked.length > 0 ? marked : [whole]
  const others = threads.filter((root) => root !== main)
  return windows.map((window) => {
    const scope = parseScopeLabel(window.name)
    const tree = new TablePhase(scope?.kind === 'phase' ? scope.name : input.root.name, input.cost)
    tree.addWindow(window)
    for (const root of others) {
      if (marked.length === 0) tree.addThread(root.called)
      else tree.addThread(root.called.find(({ name }) => name === window.name)?.called ?? [])
    }
    return tree.finish(input.idle.get(window.name) ?? 0, [])
  })
}

/** Recorded durations of the empty scopes of the calibration. */
export function calibrationScopes(tables: readonly RawTable[]): number[] {
  const empty = tables.flatMap(({ nodes }) =>
    nodes.filter(
      ({ name, parent }) => name === CALIBRATION_LABEL && nodes[parent]?.name === CALIBRATION_LABEL,
    ),
  )
  return empty.flatMap(({ histogram }) =>
    histogram.flatMap((bucket, i) =>
      i % 2 === 0 ? Array.from({ length: histogram[i + 1]! }, () => lowerBound(bucket)) : [],
    ),
  )
}

function isPhase({ kind, name }: RawNode): boolean {
  return kind === 'scope' && parseScopeLabel(name)?.kind === 'phase'
}

function link({ nodes }: RawTable): Linked {
  const linked = nodes.map((node): Linked => ({ ...node, called: [] }))
  for (const [i, node] of linked.entries()) if (i > 0) linked[node.parent]!.called.push(node)
  return linked[0]!
}

/** One phase out of tables. */
class TablePhase extends PhaseTree {
  addWindow(window: Linked): void {
    this.steps += window.calls
    this.addOwn(this.outside, window)
    for (const node of window.called) this.add(node, this.outside, false)
  }

  addThread(nodes: readonly Linked[]): void {
    const rest = nodes.filter(({ name }) => name !== CALIBRATION_LABEL)
    for (const node of rest) this.add(node, this.threads(), false)
  }

  private add(node: Linked, parent: Node, costed: boolean): void {
    if (node.name === WORKED_OUT_LABEL) {
      this.addCost(node.total)
      return
    }
    const scope = node.kind === 'scope' ? parseScopeLabel(node.name) : undefined
    if (scope?.kind === 'phase') {
      // A phase inside a phase is no row: what runs in it runs in the outer one.
      this.addOwn(parent, node)
      for (const called of node.called) this.add(called, parent, costed)
      return
    }
    const row = this.place(parent, describeCall(node, scope, parent.path), node.kind === 'scope')
    row.calls += node.calls
    addDurations(row, node.least, node.most, node.histogram)
    this.addOwn(row, node)
    const means = node.scalars.map((sum) => sum / node.calls)
    const cost = costed ? undefined : costOf(row.name, row.dtypes, node.shapes, means)
    row.flops += (cost?.flops ?? 0) * node.calls
    row.bytes += (cost?.bytes ?? 0) * node.calls
    for (const called of node.called) this.add(called, row, costed || cost !== undefined)
  }

  private addOwn(row: Node, node: Linked): void {
    const { calls, total, children, scopesInside, opsInside } = node
    row.allocated += node.allocated
    row.peak = Math.max(row.peak, node.peak)
    this.addOwnTime(
      row,
      total - children,
      { scopes: node.kind === 'scope' ? calls : 0 },
      { scopes: scopesInside, ops: opsInside },
    )
  }
}
