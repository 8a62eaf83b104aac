// SPDX-License-Identifier: Apache-2.0

/** The options of a run by name, as strings; `json` is where the results go beside the table. */
export type OptionValues = Readonly<Record<string, string>>

/** An option that takes a value. */
export interface OptionInfo {
  readonly name: string
  /** What the value is, for the help: `N`, `LIST`. */
  readonly value: string
  readonly help: string
  readonly fallback?: string
}

/** One benchmark of `npm run bench`. */
export interface Benchmark {
  readonly name: string
  /** What it measures, in a line. */
  readonly title: string
  readonly options: readonly OptionInfo[]
  /** Words after the name that choose what of it is measured; all of it without any. They are the option `parts`. */
  readonly parts?: readonly string[]
  /** Measures, prints its tables to stdout and returns everything for `--json`. */
  run(options: OptionValues): Promise<Readonly<Record<string, unknown>>>
}

/** What the user asked for cannot be done. The message says why. */
export class UsageError extends Error {}

/** The elements of an option that is a list. */
export function listOption(options: OptionValues, name: string): string[] {
  return (options[name] ?? '').split(',').filter(Boolean)
}

/** Which of a benchmark's parts are asked for: all of them where none is named. */
export function chosenParts<Part extends string>(
  options: OptionValues,
  parts: readonly Part[],
): (part: Part) => boolean {
  const named = listOption(options, 'parts')
  const unknown = named.find((name) => !parts.some((part) => part === name))
  if (unknown !== undefined) throw new UsageError(`no part '${unknown}': expected ${parts.join(', ')}`)
  return (part) => named.length === 0 || named.includes(part)
}

/** A positive whole number; throws a {@link UsageError} for anything else. */
export function countOption(options: OptionValues, name: string): number {
  return count(name, options[name] ?? '')
}

/** A list of positive whole numbers. */
export function countsOption(options: OptionValues, name: string): number[] {
  return listOption(options, name).map((text) => count(name, text))
}

function count(name: string, text: string): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${name}: expected a positive whole number, received '${text}'`)
  return value
}
