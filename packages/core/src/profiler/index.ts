// SPDX-License-Identifier: Apache-2.0
import { backends } from '../backend'
import { native } from '../native'
import type { ScopeInfo } from './labels'
import { type ProfileOptions, Profiler, type ScopeId } from './profiler'
import type { ProfileRecord } from './record'

export { describeTensor, type ScopeInfo } from './labels'
export type { ProfileOptions, ScopeId } from './profiler'
export {
  ACCOUNTING_ROWS,
  PROFILE_RECORD_VERSION,
  type ProfileEnvironment,
  type ProfilePhase,
  type ProfileRecord,
  type ProfileRow,
  type ProfileRowKind,
} from './record'
export { formatProfile, type ReportOptions } from './report'

const profiler = new Profiler(native, () =>
  backends().some(({ name, status }) => name === 'cuda' && status === 'ready'),
)

/** Whether a profile is running. Scopes cost nothing while it is not; ask before computing what only a scope needs. */
export function profiling(): boolean {
  return profiler.profiling()
}

/**
 * Defines a scope once, to be entered many times: a module with its class, instance path and weight, or a named range.
 * The same facts give the same id.
 */
export function defineScope(info: ScopeInfo): ScopeId {
  return profiler.defineScope(info)
}

/**
 * Opens a scope inside those that are open, so that ops count to it. Does nothing while not profiling.
 *
 * @throws VllmOpsError `E_PROFILER` if `id` did not come from {@link defineScope}.
 */
export function enterScope(id: ScopeId): void {
  profiler.enterScope(id)
}

/**
 * Closes a scope, and with it what was opened inside and left open, as by a throw. Does nothing for a scope that is not
 * open, as one that was entered before the profile began.
 */
export function exitScope(id: ScopeId): void {
  profiler.exitScope(id)
}

/**
 * Marks what `fn` does as one phase (`prefill`, `decode[0]`) of the running profile; phases of one name are added up,
 * and a phase inside a phase is part of it. Where phases are marked, what runs outside them is left out. Only calls
 * `fn` while not profiling.
 */
export function phase<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
  return profiler.phase(name, fn)
}

/**
 * Runs `fn` under PyTorch's profiler and returns its result with a record of the ops that it ran, by module and phase;
 * {@link formatProfile} prints it. Scopes have to be closed in the reverse order of their opening, across await too.
 *
 * @throws VllmOpsError `E_PROFILER` inside a profile. What `fn` throws is thrown on, the profiler being stopped.
 */
export function profile<T>(
  fn: () => T | Promise<T>,
  options?: ProfileOptions,
): Promise<{ result: T; record: ProfileRecord }> {
  return profiler.profile(fn, options)
}
