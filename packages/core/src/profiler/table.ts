// SPDX-License-Identifier: Apache-2.0

export interface Column {
  header: string
  align: 'left' | 'right'
}

export interface TableOptions {
  /** Columns of the terminal that a line may fill; without it, only the first column has an end. */
  width?: number | undefined
  /** Colours a finished cell, padding included. */
  style?: ((text: string, row: number, column: number) => string) | undefined
}

const GAP = '  '
/** Below this the last column says too little to stay. */
const LEAST_LAST = 16
/** Below this the first column could not be told apart; a narrower terminal wraps. */
const LEAST_FIRST = 16
/** One kernel with hundreds of characters of template arguments would move the numbers of all rows out of sight. */
const MOST_FIRST = 100

/**
 * The lines of a plain text table, header first. The first column is cut in its middle where it has more than a hundred characters. To
 * fit a width the last column, if it is text, is cut at its end, then left out, then the first is cut further; the numbers between them
 * are always whole.
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  options: TableOptions = {},
): string[] {
  const lines = [columns.map((column) => column.header), ...rows]
  const widths = columns.map((_, c) => Math.max(...lines.map((cells) => cells[c]!.length)))
  const last = widths.length - 1
  widths[0] = Math.min(widths[0]!, MOST_FIRST)
  if (options.width !== undefined) {
    let excess = widths.reduce((sum, width) => sum + width + GAP.length, -GAP.length) - options.width
    if (excess > 0 && columns[last]!.align === 'left' && last > 0) {
      const kept = widths[last]! - excess
      excess = kept >= LEAST_LAST ? 0 : -(kept + GAP.length)
      widths[last] = kept >= LEAST_LAST ? kept : 0
    }
    if (excess > 0) widths[0] = Math.max(LEAST_FIRST, widths[0]! - excess)
  }
  const shown = columns.map((column, index) => ({ ...column, index, width: widths[index]! }))
  const visible = shown.filter(({ width, index }) => index === 0 || width > 0)
  return lines.map((cells, line) => {
    const parts = visible.map(({ align, index, width }) => {
      const text = cut(cells[index]!, width, index === 0 ? 'middle' : 'end')
      // Nothing follows the last cell, so no blanks are put behind it.
      const padding = align === 'left' && index === visible.at(-1)!.index ? 0 : width
      const cell = align === 'left' ? text.padEnd(padding) : text.padStart(width)
      return options.style && line > 0 ? options.style(cell, line - 1, index) : cell
    })
    return parts.join(GAP).trimEnd()
  })
}

/** A text of at most `width` characters, with `…` for what is left out. */
export function cut(text: string, width: number, where: 'middle' | 'end'): string {
  if (text.length <= width) return text
  const tail = where === 'end' ? 0 : (width - 1) >> 1
  return `${text.slice(0, width - 1 - tail)}…${tail > 0 ? text.slice(-tail) : ''}`
}
