// SPDX-License-Identifier: Apache-2.0
import { describeEnvironment, describeTimeline } from './describe'
import { cellsOf, layoutPhase, type TableOptions } from './layout'
import type { ProfileRecord } from './record'
import { cut } from './table'

export interface MarkdownOptions extends TableOptions {
  /** Columns that a line may fill: the last column, if it is text, is cut, but for a few characters of it. */
  width?: number | undefined
}

/** Below this a cut cell says nothing. */
const LEAST_LAST = 8

/**
 * The layered table of every phase in Markdown (GitHub's tables), with a heading each.
 *
 * @throws ArgumentError for a column or group that there is not
 */
export function formatMarkdown(record: ProfileRecord, options: MarkdownOptions = {}): string {
  const parts = [escaped(describeEnvironment(record))]
  for (const phase of record.phases) {
    const layout = layoutPhase(phase, record.environment.peaks, options)
    const rows = [layout.columns.map(({ header }) => header), ...cellsOf(layout)]
    const text = rows.map((cells) => cells.map((cell) => escaped(cell)))
    const widths = layout.columns.map((_, c) => Math.max(3, ...text.map((cells) => cells[c]!.length)))
    const last = widths.length - 1
    if (options.width !== undefined && layout.columns[last]!.align === 'left') {
      const excess = widths.reduce((sum, width) => sum + width + 3, 1) - options.width
      widths[last] = Math.max(LEAST_LAST, widths[last]! - Math.max(0, excess))
    }
    const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
    const padded = text.map((cells) =>
      line(
        cells.map((cell, c) => {
          const fitting = cut(cell, widths[c]!, 'end')
          const right = layout.columns[c]!.align === 'right'
          return right ? fitting.padStart(widths[c]!) : fitting.padEnd(widths[c]!)
        }),
      ),
    )
    const rule = line(
      widths.map((width, c) =>
        layout.columns[c]!.align === 'right' ? `${'-'.repeat(width - 1)}:` : '-'.repeat(width),
      ),
    )
    parts.push(`## ${escaped(phase.name)}`, [padded[0], rule, ...padded.slice(1)].join('\n'))
    parts.push(...phase.devices.map((device) => escaped(describeTimeline(device))))
  }
  parts.push(...record.warnings.map((warning) => `> ${escaped(warning)}`))
  return `${parts.join('\n\n')}\n`
}

/** Text that would be read as Markdown. */
function escaped(text: string): string {
  return text.replace(/[\\|`*_<>[\]]/g, '\\$&').replace(/\r?\n/g, ' ')
}
