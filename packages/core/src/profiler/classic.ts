// SPDX-License-Identifier: Apache-2.0
// The two tables of the layerwise profilers for vLLM under their own column names, and the JSON that the scripts which print them read.

import { COLUMNS, shareOf, shortName } from './columns'
import { groupRows } from './group'
import { layoutPhase, type TableOptions } from './layout'
import type { ProfilePhase, ProfileRecord, ProfileRow } from './record'
import type { ReportOptions } from './report'
import { renderTable } from './table'
import { type ViewNode, viewPhase } from './view'

/** A row of the model's table. */
export interface ClassicModelEntry {
  name: string
  cpu_time_us: number
  cuda_time_us: number
  pct_cuda_time: number
  trace: string
}

/** A row of the table by kernel. */
export interface ClassicSummaryEntry {
  name: string
  cuda_time_us: number
  pct_cuda_time: number
  invocations: number
}

/** A row with those below it. */
export interface ClassicNode<Entry> {
  entry: Entry
  children: ClassicNode<Entry>[]
}

/** A phase's tables. */
export interface ClassicPhase {
  metadata: { num_running_seqs: null }
  summary_stats: ClassicNode<ClassicSummaryEntry>[]
  model_stats: ClassicNode<ClassicModelEntry>[]
}

/** The classic names of phases: `decode[0]` is `decode_1`; every other name stays. */
function phaseKey(name: string): string {
  return name.replace(/^decode\[(\d+)\]$/, (_, step: string) => `decode_${Number(step) + 1}`)
}

/**
 * The record as the classic JSON: `{ context, prefill: { metadata, summary_stats, model_stats }, decode_1: …}`. Rows without device time
 * are there too.
 */
export function classicProfile(
  record: ProfileRecord,
): Record<string, ClassicPhase | ProfileRecord['environment']> {
  const phases = record.phases.map((phase) => [phaseKey(phase.name), classicPhase(phase)])
  return { context: record.environment, ...Object.fromEntries(phases) }
}

function classicPhase(phase: ProfilePhase): ClassicPhase {
  return {
    metadata: { num_running_seqs: null },
    summary_stats: summary(phase).map((row) => ({ entry: summaryEntry(row, phase), children: [] })),
    model_stats: viewPhase(phase).map((node) => modelNode(node, [], phase)),
  }
}

/** Kernels by name; where no device was used, ops. */
function summary(phase: ProfilePhase): ProfileRow[] {
  const kind = phase.total_device_us > 0 ? 'kernel' : 'op'
  const rows = groupRows(viewPhase(phase), 'name').map(({ row }) => row)
  return rows.filter((row) => row.kind === kind).sort((a, b) => time(b) - time(a))
}

function time(row: ProfileRow): number {
  return row.kind === 'kernel' ? row.total_device_us : row.total_cpu_us
}

function percent(row: ProfileRow, phase: ProfilePhase): number {
  return phase.total_device_us > 0 ? shareOf(row, phase) : 0
}

function summaryEntry(row: ProfileRow, phase: ProfilePhase): ClassicSummaryEntry {
  const { total_device_us: cuda_time_us, calls: invocations } = row
  const name = shortName({ row, layers: 1, children: [] }, [])
  return { name, cuda_time_us, pct_cuda_time: percent(row, phase), invocations }
}

function modelNode(
  node: ViewNode,
  above: readonly ViewNode[],
  phase: ProfilePhase,
): ClassicNode<ClassicModelEntry> {
  const { total_cpu_us: cpu_time_us, total_device_us: cuda_time_us } = node.row
  const trace = String(COLUMNS.trace.value({ node, above }))
  const name = shortName(node, above)
  return {
    entry: { name, cpu_time_us, cuda_time_us, pct_cuda_time: percent(node.row, phase), trace },
    children: node.children.map((child) => modelNode(child, [...above, node], phase)),
  }
}

/** Which of the two tables. */
export type ClassicTable = 'model' | 'summary'

const HEADERS = {
  model: ['name', 'cpu_time_us', 'cuda_time_us', 'pct_cuda_time', 'trace'],
  summary: ['name', 'cuda_time_us', 'pct_cuda_time', 'invocations'],
}

/** One of the classic tables of every phase as text, with the classic column names. */
export function formatClassic(
  record: ProfileRecord,
  table: ClassicTable,
  options: ReportOptions = {},
): string {
  const columns = HEADERS[table].map((header) => {
    const align = header === 'name' || header === 'trace' ? ('left' as const) : ('right' as const)
    return { header, align }
  })
  const lines = record.phases.flatMap((phase) => {
    const cells =
      table === 'model' ? modelCells(phase, options) : summary(phase).map((row) => summaryCells(row, phase))
    return ['', phase.name, ...renderTable(columns, cells, { width: options.width })]
  })
  return `${lines.slice(1).join('\n')}\n`
}

function summaryCells(row: ProfileRow, phase: ProfilePhase): string[] {
  const { name, cuda_time_us, pct_cuda_time, invocations } = summaryEntry(row, phase)
  return [name, cuda_time_us.toFixed(2), pct_cuda_time.toFixed(2), `${invocations}`]
}

function modelCells(phase: ProfilePhase, options: TableOptions): string[][] {
  const { lines } = layoutPhase(phase, {}, options)
  return lines.map((line) => {
    const { row } = line.node
    const name = COLUMNS.name.value(line)
    const numbers = [row.total_cpu_us, row.total_device_us, percent(row, phase)].map((value) =>
      value.toFixed(2),
    )
    return [name, ...numbers, String(COLUMNS.trace.value(line))]
  })
}
