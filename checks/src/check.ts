// SPDX-License-Identifier: Apache-2.0
import { scope, synchronizeSync } from '@vllm-ops/core'

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

/** The ops that an option names, all `known` ones where it names none; throws a {@link UsageError} for others. */
export function opsOption(options: Options, name: string, known: readonly string[]): readonly string[] {
  const named = listOption(options, name)
  const unknown = named.find((op) => !known.includes(op))
  if (unknown !== undefined) throw new UsageError(`--${name}: there is no op '${unknown}'`)
  return named.length > 0 ? named : known
}

/** The report of figures and failures: it passes where there is no failure. */
export function reportOf(figures: Report['figures'], failures: readonly string[]): Report {
  return { passed: failures.length === 0, figures, failures: failures.slice(0, 100) }
}

/** A part of a claim about a device: throws, or returns figures. */
export type Trial = (
  device: string,
  count: number,
) => Promise<Record<string, unknown>> | Record<string, unknown>

/** Runs the trials of a check one after the other, each in a scope and with the device idle at its end. */
export async function runTrials(
  check: string,
  trials: Readonly<Record<string, Trial>>,
  device: string,
  count: number,
): Promise<Pick<Report, 'figures' | 'failures'>> {
  const figures: Record<string, unknown> = {}
  const failures: string[] = []
  for (const [name, trial] of Object.entries(trials)) {
    say(`${check}: ${name}`)
    try {
      figures[name] = await scope(async () => await trial(device, count))
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`)
    }
    synchronizeSync(device)
  }
  return { figures, failures }
}
