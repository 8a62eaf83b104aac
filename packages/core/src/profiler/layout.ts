// SPDX-License-Identifier: Apache-2.0
// A phase as lines with cells: what the text, Markdown and CSV tables have in common.
import { ArgumentError } from '../errors'
import { COLUMNS, type ColumnName, DEFAULT_COLUMNS, type Line, type TableColumn } from './columns'
import { filterView } from './filter'
import { type GroupBy, groupRows } from './group'
import type { DevicePeaks, ProfilePhase } from './record'
import { type ViewNode, type ViewOptions, viewPhase } from './view'

/** What of a phase a table shows, and how. */
export interface TableOptions extends ViewOptions {
  /** Names of columns, in this order. */
  columns?: readonly ColumnName[] | undefined
  /** One row for all that have this in common, in place of the tree. */
  group?: GroupBy | undefined
  /** Puts siblings with more of this column first. */
  sort?: ColumnName | undefined
  /** Percent of the phase below which a row is not shown by itself. */
  minShare?: number | undefined
  /** Shows rows whose name, path or types match, with what is above and below them. */
  match?: RegExp | undefined
}

/** A phase as a table. */
export interface Layout {
  columns: TableColumn[]
  lines: Line[]
  phase: ProfilePhase
  peaks: Readonly<Record<string, DevicePeaks>>
}

/** @throws ArgumentError for a column or group that there is not */
export function layoutPhase(
  phase: ProfilePhase,
  peaks: Readonly<Record<string, DevicePeaks>>,
  options: TableOptions = {},
): Layout {
  const columns = columnsOf(phase, options)
  const { group, sort } = options
  let nodes = viewPhase(phase, group === undefined ? options : {})
  if (group !== undefined) nodes = groupRows(nodes, group)
  nodes = filterView(nodes, phase, options)
  if (sort !== undefined) nodes = sorted(nodes, column('sort', sort), { phase, peaks })
  return { columns, lines: flatten(nodes), phase, peaks }
}

function columnsOf(phase: ProfilePhase, { columns }: TableOptions): TableColumn[] {
  if (columns !== undefined) return columns.map((name) => column('columns', name))
  const onDevice = phase.total_device_us > 0
  return DEFAULT_COLUMNS.map((name): TableColumn => COLUMNS[name]).filter(({ device }) => onDevice || !device)
}

function column(option: string, name: string): TableColumn {
  const known: Readonly<Record<string, TableColumn>> = COLUMNS
  const found = Object.hasOwn(COLUMNS, name) ? known[name] : undefined
  if (found) return found
  throw new ArgumentError('profile', option, `one of ${Object.keys(COLUMNS).join(', ')}`, `'${name}'`)
}

/** Siblings by a column; the rows that account for the rest stay at the end. */
function sorted(
  nodes: readonly ViewNode[],
  by: TableColumn,
  context: Pick<Layout, 'phase' | 'peaks'>,
): ViewNode[] {
  const keyed = nodes.map((node) => ({
    node: { ...node, children: sorted(node.children, by, context) },
    last: node.row.kind === 'other' && node.row.parent === null && node.row.name.startsWith('('),
    value: by.value({ node, above: [] }, context),
  }))
  keyed.sort((a, b) => Number(a.last) - Number(b.last) || compare(a.value, b.value))
  return keyed.map(({ node }) => node)
}

/** More before less, texts in their order, and what has no value last. */
function compare(a: number | string | undefined, b: number | string | undefined): number {
  if (a === undefined || b === undefined) return Number(a === undefined) - Number(b === undefined)
  return typeof a === 'number' && typeof b === 'number' ? b - a : String(a).localeCompare(String(b))
}

function flatten(nodes: readonly ViewNode[], above: readonly ViewNode[] = []): Line[] {
  return nodes.flatMap((node) => [{ node, above }, ...flatten(node.children, [...above, node])])
}

/** The cells of every line, the sums last; numbers as people read them. */
export function cellsOf({ columns, lines, phase, peaks }: Layout): string[][] {
  const text = (value: number | string | undefined, { format }: TableColumn) =>
    typeof value === 'number' ? format(value) : (value ?? '')
  const cells = lines.map((line) =>
    columns.map((column) => text(column.value(line, { phase, peaks }), column)),
  )
  cells.push(columns.map((column) => text(column.total?.(phase), column)))
  return cells
}
