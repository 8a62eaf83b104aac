// SPDX-License-Identifier: Apache-2.0
import { shortKernelName } from './kernel-name'
import { describeArguments } from './labels'
import type { DevicePeaks, ProfilePhase, ProfileRow } from './record'
import { rooflineOf } from './roofline'
import type { ViewNode } from './view'

/** A row of a table with the rows above it, outermost first. */
export interface Line {
  node: ViewNode
  above: readonly ViewNode[]
}

/** What a cell may depend on beside its row. */
export interface CellContext {
  phase: ProfilePhase
  peaks: Readonly<Record<string, DevicePeaks>>
}

/** One column of a table. */
export interface TableColumn {
  /** Its name in `columns`, and in CSV. */
  name: string
  /** Its heading in text and Markdown. */
  header: string
  align: 'left' | 'right'
  /** Shown by default only where there is device time. */
  device?: boolean
  /** Undefined where the row has none. */
  value: (line: Line, context: CellContext) => number | string | undefined
  /** Of the last line, which sums the phase up. */
  total?: (phase: ProfilePhase) => number | string
  /** A number for people. */
  format: (value: number) => string
}

/** The names of all columns. */
export type ColumnName = keyof typeof COLUMNS

const count = (value: number): string => (value ? `${value}` : '')
const oneDecimal = (value: number): string => value.toFixed(1)
const twoDecimals = (value: number): string => value.toFixed(2)
const blankZero = (value: number): string => (value ? oneDecimal(value) : '')

function number(
  name: string,
  header: string,
  value: (row: ProfileRow, line: Line, context: CellContext) => number | undefined,
  format = oneDecimal,
): TableColumn {
  return {
    ...{ name, header, align: 'right', format },
    value: (line, context) => value(line.node.row, line, context),
  }
}

/** A time of one call: only rows that are called have it. */
function perCall(name: string, field: 'mean_us' | 'p50_us' | 'p95_us' | 'min_us' | 'max_us'): TableColumn {
  return number(`${field}`, name, (row) => (row.calls > 0 ? row[field] : undefined))
}

/** Seconds that the row and those below it took: of the device if it was used, else of the host. */
function secondsOf(row: ProfileRow): number {
  return (row.total_device_us > 0 ? row.total_device_us : row.total_cpu_us) / 1e6
}

function rate(value: number, row: ProfileRow): number | undefined {
  const seconds = secondsOf(row)
  return value > 0 && seconds > 0 ? value / seconds / 1e9 : undefined
}

/** Percent of the phase that a row and those below it take: of its device time if it has any, else of its host time. */
export function shareOf(row: ProfileRow, phase: ProfilePhase): number {
  const [part, whole] =
    phase.total_device_us > 0
      ? [row.total_device_us, phase.total_device_us]
      : [row.total_cpu_us, phase.total_cpu_us]
  return whole > 0 ? (100 * part) / whole : 0
}

/** Every column by its name. Times are microseconds. */
export const COLUMNS = {
  name: {
    name: 'name',
    header: 'name',
    align: 'left',
    format: String,
    value: nameCell,
    total: () => 'total',
  },
  kind: { name: 'kind', header: 'kind', align: 'left', format: String, value: ({ node }) => node.row.kind },
  path: { name: 'path', header: 'path', align: 'left', format: String, value: ({ node }) => node.row.path },
  calls: number('calls', 'calls', (row) => row.calls, count),
  cpu: { ...number('cpu', 'cpu µs', (row) => row.total_cpu_us), total: (phase) => phase.total_cpu_us },
  self_cpu: {
    ...number('self_cpu', 'cpu self', (row) => row.self_cpu_us),
    total: (phase) => phase.total_cpu_us,
  },
  device: {
    ...number('device', 'device µs', (row) => row.total_device_us),
    device: true,
    total: (phase) => phase.total_device_us,
  },
  self_device: {
    ...number('self_device', 'device self', (row) => row.self_device_us),
    device: true,
    total: (phase) => phase.total_device_us,
  },
  share: {
    ...number('share', 'share %', (row, _, { phase }) => shareOf(row, phase)),
    total: () => 100,
  },
  mean: perCall('mean µs', 'mean_us'),
  p50: perCall('p50 µs', 'p50_us'),
  p95: perCall('p95 µs', 'p95_us'),
  min: perCall('min µs', 'min_us'),
  max: perCall('max µs', 'max_us'),
  launches: number('launches', 'launches', (row) => row.launches, count),
  gflops: number('gflops', 'GFLOP/s', (row) => rate(row.flops, row), twoDecimals),
  gbps: number('gbps', 'GB/s', (row) => rate(row.bytes, row), twoDecimals),
  roofline: number(
    'roofline',
    'roofline %',
    (_, line, { peaks }) => rooflineOf(line.node, peaks)?.percent,
    oneDecimal,
  ),
  verdict: {
    ...{ name: 'verdict', header: 'bound by', align: 'left', format: String },
    value: (line, { peaks }) => rooflineOf(line.node, peaks)?.verdict,
  },
  allocated: number('allocated', 'alloc KiB', (row) => row.allocated_bytes / 1024, blankZero),
  peak: number('peak', 'peak KiB', (row) => row.peak_bytes / 1024, blankZero),
  trace: { name: 'trace', header: 'trace', align: 'left', format: String, value: traceCell },
} as const satisfies Record<string, TableColumn>

/** What a table shows where nothing is said; device columns only where there is device time. */
export const DEFAULT_COLUMNS = [
  ...(['name', 'calls', 'cpu', 'self_cpu', 'device', 'self_device'] as const),
  ...(['share', 'trace'] as const),
]

/** `|--- RMSNorm(input_layernorm)`: the path is from the module above. */
function nameCell({ node, above }: Line): string {
  const indent = above.length > 0 ? `|${'-'.repeat(above.length)} ` : ''
  return indent + shortName(node, above)
}

/** A row's name without indentation. */
export function shortName(node: ViewNode, above: readonly ViewNode[]): string {
  const { row, layers } = node
  if (row.kind === 'kernel') return shortKernelName(row.name)
  if (row.kind !== 'module') return row.name
  const outer = above.findLast(({ row }) => row.kind === 'module')?.row.path
  const path = outer && row.path.startsWith(`${outer}.`) ? row.path.slice(outer.length + 1) : row.path
  if (!path) return row.name
  return `${row.name}(${layers > 1 ? `${path} ×${layers}` : path})`
}

/** `aten::mm(bfloat16[4, 576], …) <- aten::linear <- QKVParallelLinear`; of a module, its weight and whole path. */
function traceCell({ node, above }: Line): string {
  const { row, spread } = node
  if (row.kind === 'module') {
    const place = row.weight ? `weight=${row.weight} ${row.path}` : row.path
    if (!spread) return place
    const { fastest, slowest } = spread
    return `${place}: ${fastest.path} ${fastest.us.toFixed(1)} … ${slowest.path} ${slowest.us.toFixed(1)} µs`
  }
  // Neither what accounts for the rest, nor a group of calls with different arguments.
  if (above.length === 0 && (row.kind === 'other' || row.dtypes.length === 0)) return ''
  const callers: ProfileRow[] = []
  for (const { row } of above.toReversed()) {
    callers.push(row)
    if (row.kind === 'module') break
  }
  const name = row.kind === 'kernel' ? shortKernelName(row.name) : row.name
  const call = row.kind === 'op' ? `${name}(${describeArguments(row.dtypes, row.shapes)})` : name
  return [call, ...callers.map(({ name }) => name)].join(' <- ')
}

function isColumnName(name: string): name is ColumnName {
  return Object.hasOwn(COLUMNS, name)
}

/** Every column's name. */
export const COLUMN_NAMES: readonly ColumnName[] = Object.keys(COLUMNS).filter(isColumnName)
