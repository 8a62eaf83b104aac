// SPDX-License-Identifier: Apache-2.0

/** Rows of text in columns; every column but the first `textColumns` is aligned to the right. */
export function table(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  textColumns = 1,
): string {
  const all = [header, ...rows]
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)))
  const line = (row: readonly string[]) =>
    widths
      .map((width, i) => (i < textColumns ? (row[i] ?? '').padEnd(width) : (row[i] ?? '').padStart(width)))
      .join('  ')
      .trimEnd()
  return `${[line(header), widths.map((width) => '-'.repeat(width)).join('  '), ...rows.map(line)].join('\n')}\n`
}

/** A number in about three significant digits; a dash for what was not measured. */
export function number(value: number | undefined, digits = 3): string {
  if (value === undefined || !Number.isFinite(value)) return '–'
  return Math.abs(value) >= 10 ** (digits - 1) ? value.toFixed(0) : value.toPrecision(digits)
}

export function percent(value: number): string {
  return `${(value * 100).toFixed(0)} %`
}
