// SPDX-License-Identifier: Apache-2.0
import { VllmOpsError } from '../errors'
import { groupRows } from './group'
import { describeArguments } from './labels'
import type { ProfilePhase, ProfileRecord, ProfileRow } from './record'
import { renderTable } from './table'
import { viewPhase } from './view'

export interface DiffOptions {
  /** Percent that a row's time may differ by without being significant: 10 by default. */
  threshold?: number | undefined
  /** Percent of the phase that a difference has to make up: 1 by default. */
  minShare?: number | undefined
}

/** What became of one kind of call: same kind, name, types and shapes. */
export interface DiffRow {
  phase: string
  kind: ProfileRow['kind']
  name: string
  /** The arguments' types and shapes. */
  types: string
  calls: [number, number]
  /** Microseconds in each record, of this row itself: of the device if it has any in either, else of the host. */
  us: [number, number]
  /** Percent by which the second is more than the first; Infinity for what is new. */
  percent: number
  /** Microseconds by which it may differ by chance: from the spread of the calls in both records. */
  noise_us: number
  /** Whether it is more than the threshold, the noise and the least share. */
  significant: boolean
}

/** Two records compared. */
export interface ProfileDiff {
  rows: DiffRow[]
  /** Phases that only one of the records has. */
  missing: string[]
  /** Whether a row became significantly slower. */
  slower: boolean
}

const THRESHOLD = 10
const MIN_SHARE = 1
/** Half widths of the noise band in standard errors: for a few hundred rows about one in a thousand comparisons is outside by chance. */
const BAND = 3.3

/**
 * Compares two records row by row: ops and kernels of the same types and shapes, modules of the same class and weight. Nothing is
 * significant that the spread of the calls explains, nor what is a small part of the phase.
 *
 * @throws VllmOpsError `E_PROFILER` if the records have no phase in common
 */
export function diffProfiles(
  before: ProfileRecord,
  after: ProfileRecord,
  options: DiffOptions = {},
): ProfileDiff {
  const names = new Set([...before.phases, ...after.phases].map(({ name }) => name))
  const rows: DiffRow[] = []
  const missing: string[] = []
  for (const name of names) {
    const [a, b] = [before, after].map(({ phases }) => phases.find((phase) => phase.name === name))
    if (a && b) rows.push(...diffPhase(a, b, options))
    else missing.push(name)
  }
  if (missing.length === names.size) {
    throw new VllmOpsError('E_PROFILER', 'the records have no phase in common', {
      fix: 'Compare records of the same program',
    })
  }
  rows.sort((a, b) => Math.abs(b.us[1] - b.us[0]) - Math.abs(a.us[1] - a.us[0]))
  return { rows, missing, slower: rows.some(({ significant, us }) => significant && us[1] > us[0]) }
}

function diffPhase(before: ProfilePhase, after: ProfilePhase, options: DiffOptions): DiffRow[] {
  const threshold = options.threshold ?? THRESHOLD
  const minShare = options.minShare ?? MIN_SHARE
  const [a, b] = [grouped(before), grouped(after)]
  // A phase that ran more often did more: compared is what one run takes.
  const steps = [Math.max(1, before.steps), Math.max(1, after.steps)] as const
  return [...new Set([...a.keys(), ...b.keys()])].map((key): DiffRow => {
    const pair = [a.get(key), b.get(key)] as const
    const row = (pair[1] ?? pair[0])!
    const onDevice = pair.some((row) => row !== undefined && row.self_device_us > 0)
    const timeOf = (row: ProfileRow | undefined) =>
      row ? (onDevice ? row.self_device_us : row.self_cpu_us) : 0
    const us: [number, number] = [timeOf(pair[0]) / steps[0], timeOf(pair[1]) / steps[1]]
    const change = us[1] - us[0]
    const noise_us = BAND * Math.hypot(errorOf(pair[0], us[0], steps[0]), errorOf(pair[1], us[1], steps[1]))
    const whole = [before, after].map(
      (phase, i) => (onDevice ? phase.total_device_us : phase.total_cpu_us) / steps[i]!,
    )
    const share = (100 * Math.abs(change)) / Math.max(...whole, Number.MIN_VALUE)
    const percent = us[0] > 0 ? (100 * change) / us[0] : us[1] > 0 ? Number.POSITIVE_INFINITY : 0
    const significant = Math.abs(percent) > threshold && share > minShare && Math.abs(change) > noise_us
    const { kind, name, dtypes, shapes } = row
    const calls: [number, number] = [(pair[0]?.calls ?? 0) / steps[0], (pair[1]?.calls ?? 0) / steps[1]]
    const types = kind === 'module' ? '' : describeArguments(dtypes, shapes)
    return { phase: after.name, kind, name, types, calls, us, percent, noise_us, significant }
  })
}

function grouped(phase: ProfilePhase): Map<string, ProfileRow> {
  const rows = groupRows(viewPhase(phase), 'shape').map(({ row }) => row)
  return new Map(rows.map((row) => [JSON.stringify([row.kind, row.name, row.dtypes, row.shapes]), row]))
}

/**
 * How far a row's time may be off by chance: from how far its calls lie apart. A row of a single call says nothing about that, so half of
 * it is taken.
 */
function errorOf(row: ProfileRow | undefined, us: number, steps: number): number {
  if (!row || us === 0) return 0
  if (row.calls < 2) return us / 2
  // For any distribution 90 % of whose calls lie between: p50 to p95 is about 1.6 standard deviations of a normal one.
  const deviation = Math.max(row.p95_us - row.p50_us, row.p50_us - row.min_us) / 1.6
  // Calls of one run are slow together, as when another program runs: not independent of each other.
  const independent = Math.max(1, Math.min(row.calls, steps))
  const relative = row.mean_us > 0 ? deviation / row.mean_us : 0
  return (us * relative) / Math.sqrt(independent)
}

/** The comparison as text: significant rows, or all; times are microseconds of one run of the phase. */
export function formatDiff(
  diff: ProfileDiff,
  options: { all?: boolean; width?: number | undefined } = {},
): string {
  const shown = diff.rows.filter(({ significant }) => options.all || significant)
  const columns = [
    ...(['phase', 'name'] as const).map((header) => ({ header, align: 'left' as const })),
    ...['calls', 'before µs', 'after µs', 'change µs', 'change %', 'noise ± µs'].map((header) => ({
      header,
      align: 'right' as const,
    })),
    { header: 'types', align: 'left' as const },
  ]
  const signed = (value: number) =>
    `${value > 0 ? '+' : ''}${Number.isFinite(value) ? value.toFixed(1) : 'new'}`
  const cells = shown.map(({ phase, name, types, calls, us, percent, noise_us }) => [
    ...[phase, name, calls[0] === calls[1] ? `${calls[0]}` : `${calls[0]} → ${calls[1]}`],
    ...[
      us[0].toFixed(1),
      us[1].toFixed(1),
      signed(us[1] - us[0]),
      signed(percent),
      noise_us.toFixed(1),
      types,
    ],
  ])
  const lines = shown.length > 0 ? renderTable(columns, cells, { width: options.width }) : []
  const significant = diff.rows.filter((row) => row.significant).length
  lines.push(`${significant} of ${diff.rows.length} rows differ significantly`)
  lines.push(...diff.missing.map((name) => `phase '${name}' is in one record only`))
  return `${lines.join('\n')}\n`
}
