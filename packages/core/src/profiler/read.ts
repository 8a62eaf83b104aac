// SPDX-License-Identifier: Apache-2.0
import { VllmOpsError } from '../errors'
import { PROFILE_RECORD_VERSION, type ProfileRecord } from './record'

/**
 * A stored record out of its JSON.
 *
 * @param where what it is called in errors, such as the file's name
 * @throws VllmOpsError `E_PROFILER` for what is no record, or one of another version
 */
export function readProfile(json: string, where = 'the text'): ProfileRecord {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (cause) {
    throw wrong(where, `no JSON: ${cause instanceof Error ? cause.message : cause}`)
  }
  if (typeof value !== 'object' || value === null || !('version' in value) || !('phases' in value)) {
    throw wrong(where, 'no profile: it has no version or no phases')
  }
  if (value.version !== PROFILE_RECORD_VERSION) {
    throw wrong(where, `a profile of version ${value.version}, expected ${PROFILE_RECORD_VERSION}`)
  }
  if (!isRecord(value)) throw wrong(where, 'no whole profile: its environment, phases or rows are missing')
  return value
}

function wrong(where: string, what: string): VllmOpsError {
  return new VllmOpsError('E_PROFILER', `${where} is ${what}`, {
    fix: 'Make one: vllm-ops profile --json FILE',
  })
}

/** What everything that reads a record relies on; profile.schema.json has the rest. */
function isRecord(value: object): value is ProfileRecord {
  const { environment, phases, warnings } = value as Partial<ProfileRecord>
  const isPhase = (phase: unknown): boolean =>
    typeof phase === 'object' &&
    phase !== null &&
    'name' in phase &&
    'rows' in phase &&
    Array.isArray(phase.rows) &&
    'devices' in phase &&
    Array.isArray(phase.devices) &&
    phase.rows.every(isRow)
  return (
    typeof environment === 'object' &&
    environment !== null &&
    typeof environment.peaks === 'object' &&
    Array.isArray(warnings) &&
    Array.isArray(phases) &&
    phases.every(isPhase)
  )
}

function isRow(row: unknown, at: number): boolean {
  if (typeof row !== 'object' || row === null) return false
  const { id, parent, total_cpu_us, shapes, dtypes, histogram } = row as Record<string, unknown>
  const isAbove = parent === null || (typeof parent === 'number' && parent >= 0 && parent < at)
  return (
    id === at &&
    isAbove &&
    typeof total_cpu_us === 'number' &&
    [shapes, dtypes, histogram].every(Array.isArray)
  )
}
