// SPDX-License-Identifier: Apache-2.0
import { COLUMN_NAMES } from './columns'
import { layoutPhase, type TableOptions } from './layout'
import type { ProfileRecord } from './record'

/**
 * The rows of every phase as CSV (RFC 4180), numbers in full: `phase`, `id`, `parent`, then the columns asked for, or all.
 *
 * @throws ArgumentError for a column or group that there is not
 */
export function formatCsv(record: ProfileRecord, options: TableOptions = {}): string {
  const names = options.columns ?? COLUMN_NAMES
  const lines = [['phase', 'id', 'parent', ...names]]
  for (const phase of record.phases) {
    const {
      columns,
      lines: rows,
      peaks,
    } = layoutPhase(phase, record.environment.peaks, { ...options, columns: names })
    const numbers = new Map(rows.map(({ node }, i) => [node, i]))
    for (const [id, line] of rows.entries()) {
      const parent = line.above.at(-1)
      const cells = columns.map((column) => {
        const value = column.name === 'name' ? line.node.row.name : column.value(line, { phase, peaks })
        return value === undefined ? '' : String(value)
      })
      lines.push([phase.name, `${id}`, parent ? `${numbers.get(parent)}` : '', ...cells])
    }
  }
  return lines.map((cells) => `${cells.map(quote).join(',')}\r\n`).join('')
}

function quote(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell
}
