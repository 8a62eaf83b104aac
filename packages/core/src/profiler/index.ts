// SPDX-License-Identifier: Apache-2.0
import { backends } from '../backend'
import { native, onStart } from '../native'
import type { ScopeInfo } from './labels'
import { type ProfileOptions, Profiler } from './profiler'
import type { DevicePeaks, ProfileRecord } from './record'
import type { ScopeId } from './scope-stack'

export { type ChromeEvent, type ChromeTrace, chromeTrace } from './chrome'
export {
  type ClassicModelEntry,
  type ClassicNode,
  type ClassicPhase,
  type ClassicSummaryEntry,
  type ClassicTable,
  classicProfile,
  formatClassic,
} from './classic'
export { COLUMN_NAMES, type ColumnName } from './columns'
export { formatCsv } from './csv'
export { type DiffOptions, type DiffRow, diffProfiles, formatDiff, type ProfileDiff } from './diff'
export { GROUPS, type GroupBy } from './group'
export { formatHtml } from './html'
export { describeTensor, type ScopeInfo } from './labels'
export type { TableOptions } from './layout'
export { formatMarkdown, type MarkdownOptions } from './markdown'
export { measurePeaks } from './peaks'
export type { ProfileOptions } from './profiler'
export { readProfile } from './read'
export * from './record'
export { formatProfile, type ReportOptions } from './report'
export type { ScopeId } from './scope-stack'
export { collapsedStacks, type StackOptions } from './stacks'
export type { ViewOptions } from './view'

const profiler = new Profiler(native, () =>
  backends().some(({ name, status }) => name === 'cuda' && status === 'ready'),
)
// A profile of another thread records this one's scopes too.
onStart((addon) => addon.watchProfiling(profiler.flag))

/** Whether a profile is running, in any thread. Scopes cost nothing while none is; ask before computing what only a scope needs. */
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
 * Opens a scope inside those that are open, so that ops count to it. Does nothing while not profiling. It has to be closed before
 * the next `await`; what lasts longer is a {@link range}.
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
 * Counts what `fn` does under a name of its own, across `await` too: any number of ranges may run at once, each with what its own
 * code calls. What a range waits for is not its time. Only calls `fn` while not profiling.
 */
export function range<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
  return profiler.range(name, fn)
}

/**
 * Marks what `fn` does as one phase (`prefill`, `decode[0]`) of the running profile; phases of one name are added up,
 * and a phase inside a phase is part of it. Where phases are marked, what runs outside them is left out. Only calls
 * `fn` while not profiling.
 */
export function phase<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
  return profiler.phase(name, fn)
}

/** A profile that lasts until it is stopped, or until the block ends that it was made in by `using`. */
export interface RunningProfile {
  /**
   * Ends the profile.
   *
   * @throws VllmOpsError `E_PROFILER` if it has ended
   */
  stop(): ProfileRecord
  /** Ends the profile, if it runs; {@link lastProfile} has the record. */
  [Symbol.dispose](): void
}

/**
 * Runs `fn` under PyTorch's profiler and returns its result with a record of the ops that it ran, by module and phase;
 * {@link formatProfile} prints it.
 *
 * @throws VllmOpsError `E_PROFILER` inside a profile. What `fn` throws is thrown on, the profiler being stopped;
 * {@link lastProfile} has what ran until then.
 */
export function profile<T>(
  fn: () => T | Promise<T>,
  options?: ProfileOptions,
): Promise<{ result: T; record: ProfileRecord }>
/**
 * Starts a profile: `using p = profile()`.
 *
 * @throws VllmOpsError `E_PROFILER` inside a profile.
 */
export function profile(options?: ProfileOptions): RunningProfile
export function profile<T>(
  first?: (() => T | Promise<T>) | ProfileOptions,
  options?: ProfileOptions,
): Promise<{ result: T; record: ProfileRecord }> | RunningProfile {
  if (typeof first === 'function') return profiler.profile(first, options)
  profiler.start(first)
  let running = true
  const stop = () => {
    if (!running) return profiler.noProfile()
    running = false
    return profiler.stop()
  }
  return { stop, [Symbol.dispose]: () => void (running && stop()) }
}

/** The record of this thread's profile that ended last, be it by an error of what it ran. */
export function lastProfile(): ProfileRecord | undefined {
  return profiler.lastRecord()
}

/**
 * Sets what devices can do at best, by name (`cpu`, `cuda:0`), as {@link measurePeaks} finds it. It stands in every record from now
 * on, which then says how close an op comes.
 */
export function setPeaks(peaks: Record<string, DevicePeaks>): void {
  profiler.setPeaks(peaks)
}

let capturesProfiled = false

/**
 * Has every later `capture` in this thread profiled, so that profiles book the kernels of its replays under the ops and modules that
 * recorded them. Off at first, since the profiler takes a while to start.
 */
export function profileCaptures(on: boolean): void {
  capturesProfiled = on
}

/** @internal What {@link profileCaptures} says. */
export function profilesCaptures(): boolean {
  return capturesProfiled
}
