// SPDX-License-Identifier: Apache-2.0
import { styleText } from 'node:util'
import { describeArguments } from './labels'
import type { ProfilePhase, ProfileRecord, ProfileRow } from './record'
import { type Column, renderTable } from './table'
import { type ViewNode, type ViewOptions, viewPhase } from './view'

export interface ReportOptions extends ViewOptions {
  /** Columns of the terminal; without it, lines are as long as they need, as for a file or a pipe. */
  width?: number | undefined
  /** Emphasises modules and dims the trace by ANSI sequences. */
  color?: boolean | undefined
}

/**
 * The layered table of every phase as text: module > op > device kernel, indented with `|-`. Times are microseconds;
 * `cpu` and `device` include the rows below, `self` does not. `share` is the part of the phase that the row and those
 * below it take: of its device time if it has any, else of its host time.
 */
export function formatProfile(record: ProfileRecord, options: ReportOptions = {}): string {
  const { torch, threads, cpu, cores, node, platform } = record.environment
  const environment = `torch ${torch}, ${threads} of ${cores} threads, ${cpu}, node ${node}, ${platform}`
  const lines = [environment]
  for (const phase of record.phases) lines.push('', phase.name, ...formatPhase(phase, options))
  return `${lines.join('\n')}\n`
}

/** The table of one phase, a line each. */
function formatPhase(phase: ProfilePhase, options: ReportOptions): string[] {
  const onDevice = phase.total_device_us > 0
  const columns = COLUMNS.filter((column) => onDevice || !column.device)
  const shown = flatten(viewPhase(phase, options))
  const cells = shown.map((line) => columns.map((column) => column.cell(line, phase)))
  cells.push(columns.map((column) => column.total?.(phase) ?? ''))
  const style = (text: string, row: number, column: number) => {
    if (column === columns.length - 1) return ansi('dim', text)
    const kind = shown[row]?.node.row.kind
    return column === 0 && (kind === 'module' || kind === undefined) ? ansi('bold', text) : text
  }
  return renderTable(columns, cells, { width: options.width, style: options.color ? style : undefined })
}

/** The caller decides about colour, so what the environment and stdout say does not matter here. */
function ansi(format: 'bold' | 'dim', text: string): string {
  return styleText(format, text, { validateStream: false })
}

/** A row of the table with the rows above it, outermost first. */
interface Line {
  node: ViewNode
  above: readonly ViewNode[]
}

interface ReportColumn extends Column {
  /** Shown only where there is device time. */
  device?: boolean
  cell: (line: Line, phase: ProfilePhase) => string
  total?: (phase: ProfilePhase) => string
}

const COLUMNS: readonly ReportColumn[] = [
  { header: 'name', align: 'left', cell: nameCell, total: () => 'total' },
  { header: 'calls', align: 'right', cell: ({ node }) => (node.row.calls ? `${node.row.calls}` : '') },
  microseconds('cpu µs', 'total_cpu_us', (phase) => phase.total_cpu_us),
  microseconds('cpu self', 'self_cpu_us', (phase) => phase.total_cpu_us),
  { ...microseconds('device µs', 'total_device_us', (phase) => phase.total_device_us), device: true },
  { ...microseconds('device self', 'self_device_us', (phase) => phase.total_device_us), device: true },
  {
    header: 'share %',
    align: 'right',
    cell: ({ node: { row } }, phase) =>
      phase.total_device_us > 0
        ? percent(row.total_device_us, phase.total_device_us)
        : percent(row.total_cpu_us, phase.total_cpu_us),
    total: () => '100.0',
  },
  { header: 'trace', align: 'left', cell: traceCell },
]

function microseconds(
  header: string,
  field: 'total_cpu_us' | 'self_cpu_us' | 'total_device_us' | 'self_device_us',
  total: (phase: ProfilePhase) => number,
): ReportColumn {
  const cell = ({ node }: Line) => node.row[field].toFixed(1)
  return { header, align: 'right', cell, total: (phase) => total(phase).toFixed(1) }
}

function percent(part: number, whole: number): string {
  return (whole > 0 ? (100 * part) / whole : 0).toFixed(1)
}

function flatten(nodes: readonly ViewNode[], above: readonly ViewNode[] = []): Line[] {
  return nodes.flatMap((node) => [{ node, above }, ...flatten(node.children, [...above, node])])
}

/** `|--- RMSNorm(input_layernorm)`: the path is from the module above. */
function nameCell({ node, above }: Line): string {
  const { row, layers } = node
  const indent = above.length > 0 ? `|${'-'.repeat(above.length)} ` : ''
  if (row.kind !== 'module') return indent + row.name
  const outer = above.findLast(({ row }) => row.kind === 'module')?.row.path
  const path = outer && row.path.startsWith(`${outer}.`) ? row.path.slice(outer.length + 1) : row.path
  if (!path) return indent + row.name
  return `${indent}${row.name}(${layers > 1 ? `${path} ×${layers}` : path})`
}

/** `aten::mm(bfloat16[4, 576], …) <- aten::linear <- QKVParallelLinear`; of a module, its weight and whole path. */
function traceCell({ node: { row }, above }: Line): string {
  if (row.kind === 'module') return row.weight ? `weight=${row.weight} ${row.path}` : row.path
  if (row.kind === 'other' && above.length === 0) return ''
  const callers: ProfileRow[] = []
  for (const { row } of above.toReversed()) {
    callers.push(row)
    if (row.kind === 'module') break
  }
  const call = row.kind === 'op' ? `${row.name}(${describeArguments(row.dtypes, row.shapes)})` : row.name
  return [call, ...callers.map(({ name }) => name)].join(' <- ')
}
