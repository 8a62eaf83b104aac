// SPDX-License-Identifier: Apache-2.0

/** The options of a run by name, as the user wrote them or with their fallbacks. */
export type Options = Readonly<Record<string, string>>

/** An option that takes a value. */
export interface OptionInfo {
  readonly name: string
  /** What the value is, for the help: `N`, `LIST`. */
  readonly value: string
  readonly help: string
  readonly fallback?: string
}

/** What a check found. */
export interface Report {
  /** Whether everything held; the exit code follows it. */
  readonly passed: boolean
  /** What was counted and measured, for the JSON line: counts, bytes (`…Bytes`), milliseconds (`…Ms`). */
  readonly figures: Readonly<Record<string, unknown>>
  /** What did not hold, one sentence each with what replays it. At most a hundred. */
  readonly failures: readonly string[]
}

/** One check of `npm run check`: a claim about reliability, and what tries to break it. */
export interface Check {
  readonly name: string
  /** The claim, in a line. */
  readonly describe: string
  readonly options: readonly OptionInfo[]
  /** Runs it. Talk goes to stderr (`say`); stdout belongs to the JSON line. */
  run(options: Options): Promise<Report>
}

/** What the user asked for cannot be done. The message says why. */
export class UsageError extends Error {}

/** Writes a line of talk. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`)
}

/** A whole number of 0 and more; throws a {@link UsageError} for anything else. */
export function numberOption(options: Options, name: string): number {
  const text = options[name] ?? ''
  const value = Number(text)
  if (text === '' || !Number.isSafeInteger(value) || value < 0)
    throw new UsageError(`--${name}: expected a whole number of 0 and more, received '${text}'`)
  return value
}

/** The elements of an option that is a list, separated by commas. */
export function listOption(options: Options, name: string): string[] {
  return (options[name] ?? '').split(',').filter(Boolean)
}

/** The report of figures and failures: it passes where there is no failure. */
export function reportOf(figures: Report['figures'], failures: readonly string[]): Report {
  return { passed: failures.length === 0, figures, failures: failures.slice(0, 100) }
}
