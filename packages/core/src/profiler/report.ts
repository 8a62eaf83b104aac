// SPDX-License-Identifier: Apache-2.0
import { styleText } from 'node:util'
import { type Line, shareOf } from './columns'
import { describeEnvironment, describeTimeline } from './describe'
import { cellsOf, type Layout, layoutPhase, type TableOptions } from './layout'
import type { ProfilePhase, ProfileRecord } from './record'
import { renderTable } from './table'

export interface ReportOptions extends TableOptions {
  /** Columns of the terminal; without it, lines are as long as they need, as for a file or a pipe. */
  width?: number | undefined
  /** Colours shares, emphasises modules and dims the trace by ANSI sequences. */
  color?: boolean | undefined
}

/** Percent from which a row's share is coloured. */
const HOT = 20
const WARM = 5

/**
 * The layered table of every phase as text: module > op > device kernel, indented with `|-`. Times are microseconds;
 * `cpu` and `device` include the rows below, `self` does not. `share` is the part of the phase that the row and those
 * below it take: of its device time if it has any, else of its host time.
 *
 * @throws ArgumentError for a column or group that there is not
 */
export function formatProfile(record: ProfileRecord, options: ReportOptions = {}): string {
  const lines = [describeEnvironment(record)]
  for (const phase of record.phases) {
    lines.push('', phase.name, ...formatPhase(layoutPhase(phase, record.environment.peaks, options), options))
    lines.push(...phase.devices.map(describeTimeline))
  }
  if (record.warnings.length > 0) lines.push('', ...record.warnings.map((warning) => `warning: ${warning}`))
  return `${lines.join('\n')}\n`
}

/** The table of one phase, a line each. */
function formatPhase(layout: Layout, options: ReportOptions): string[] {
  const { columns, lines, phase } = layout
  const style = (text: string, row: number, column: number) =>
    styleCell(text, columns[column]!.name, lines[row], phase)
  return renderTable(columns, cellsOf(layout), {
    width: options.width,
    style: options.color ? style : undefined,
  })
}

function styleCell(text: string, column: string, line: Line | undefined, phase: ProfilePhase): string {
  const kind = line?.node.row.kind
  if (column === 'trace') return ansi('dim', text)
  if (column === 'name' && (kind === 'module' || kind === undefined)) return ansi('bold', text)
  if (column !== 'share' || line === undefined) return text
  const share = shareOf(line.node.row, phase)
  return share >= HOT ? ansi('red', text) : share >= WARM ? ansi('yellow', text) : text
}

/** The caller decides about colour, so what the environment and stdout say does not matter here. */
function ansi(format: 'bold' | 'dim' | 'red' | 'yellow', text: string): string {
  return styleText(format, text, { validateStream: false })
}
