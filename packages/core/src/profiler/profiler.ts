// SPDX-License-Identifier: Apache-2.0
import { performance } from 'node:perf_hooks'
import { VllmOpsError } from '../errors'
import type { Addon } from '../native'
import { CALIBRATION_LABEL, type Calibration, recordingCost } from './calibration'
import { environmentOf } from './environment'
import { type CapturedGraphs, capturedGraphs } from './graphs'
import { parseScopeLabel, type ScopeInfo } from './labels'
import type { RawEvent } from './raw-event'
import { type DevicePeaks, PROFILE_RECORD_VERSION, type ProfileRecord } from './record'
import { type OpenScope, type ScopeId, ScopeStack } from './scope-stack'
import { calibrationScopes, phasesOfTables } from './table-tree'
import { traceOf } from './trace'
import { buildPhases } from './tree'

/** What the profiler needs of the addon. */
export type ProfilerNative = Pick<
  Addon,
  | 'profilerStart'
  | 'profilerStop'
  | 'scopeDefine'
  | 'scopeEnter'
  | 'scopeExit'
  | 'devicesInUse'
  | 'torchVersion'
  | 'getNumThreads'
>

export interface ProfileOptions {
  /** Name of the phase if none is marked by {@link Profiler.phase}; `run` by default. */
  phase?: string | undefined
  /**
   * - `events`, the default: every event, by PyTorch's Kineto; on devices their kernels too
   * - `tables`: calls are added up as they happen. Costs less, takes no more memory for a longer run, and knows the host only.
   */
  record?: 'events' | 'tables' | undefined
  /** Record types and sizes of the arguments: true by default. Without, calls of an op merge whatever they got. */
  shapes?: boolean | undefined
  /** Record what is allocated: true by default. */
  memory?: boolean | undefined
  /** Record the ops of all threads, not of this one only: true by default. */
  threads?: boolean | undefined
  /** Keep every event in the record, for a timeline: false by default. */
  trace?: boolean | undefined
}

const ROOT_LABEL = 'vllm-ops: profile'

/** A profile that is running. */
interface Session {
  readonly options: ProfileOptions
  readonly calibration: Calibration
  readonly root: OpenScope
  /** What {@link idleNs} was at the start. */
  readonly idleBefore: number
  /** Nanoseconds in which the event loop waited, by the label of the phase. */
  readonly idle: Map<string, number>
  readonly warnings: string[]
}

/** The profiler of a thread: PyTorch's own, and the scopes that say which module an op belongs to. */
export class Profiler {
  /** Its only byte is 1 while a profile of any thread of the process is running. */
  readonly flag = new Uint8Array(1)
  private readonly scopes: ScopeStack
  private session: Session | undefined
  private last: ProfileRecord | undefined
  private readonly graphs = new Map<number, ReturnType<CapturedGraphs['get']> & object>()
  private peaks: Record<string, DevicePeaks> = {}

  /** @param cuda says whether there are kernels on CUDA to record */
  constructor(
    private readonly native: () => ProfilerNative,
    private readonly cuda: () => boolean,
  ) {
    this.scopes = new ScopeStack(native)
  }

  /** Whether a profile is running, that is, whether scopes are recorded. */
  profiling(): boolean {
    return this.flag[0] === 1
  }

  /** Defines a scope once, to be entered many times. The same facts give the same id. */
  defineScope(info: ScopeInfo): ScopeId {
    return this.scopes.define(info)
  }

  /** Opens a scope inside those that are open. Does nothing while not profiling. */
  enterScope(id: ScopeId): void {
    if (this.profiling()) this.scopes.enter(id)
  }

  /**
   * Closes a scope, and with it what was opened inside and left open, as by a throw. Does nothing for a scope that is
   * not open, as one that was entered before the profile began.
   */
  exitScope(id: ScopeId): void {
    this.scopes.exit(id)
  }

  /** What devices can do at best: stands in every record from now on. */
  setPeaks(peaks: Record<string, DevicePeaks>): void {
    this.peaks = peaks
  }

  /** The record of the profile that ended last, whether by its end or by an error. */
  lastRecord(): ProfileRecord | undefined {
    return this.last
  }

  /** Counts what `fn` does under a name of its own, wherever it is awaited. Only calls `fn` while not profiling. */
  async range<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
    if (!this.profiling()) return await fn()
    return await this.scopes.range(this.scopes.define({ kind: 'range', name }), fn)
  }

  /**
   * Marks what `fn` does as one phase of the running profile; phases of one name are added up, and a phase inside a
   * phase is part of it. Where phases are marked, what runs outside them is left out. Only calls `fn` while not
   * profiling.
   */
  async phase<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
    const { session } = this
    if (!session) return await fn()
    const isNested = this.scopes.inPhase()
    const id = this.scopes.define({ kind: 'phase', name })
    const before = idleNs()
    const scope = this.scopes.enterPhase(id)
    try {
      return await fn()
    } finally {
      this.warnOfOpen(session, this.scopes.close(scope))
      const idle = idleNs() - before
      const label = this.scopes.labelOf(id)
      if (!isNested) session.idle.set(label, (session.idle.get(label) ?? 0) + idle)
    }
  }

  /**
   * Runs `fn` and returns its result with a record of the ops that it ran, by module and phase.
   *
   * @throws VllmOpsError `E_PROFILER` inside a profile. What `fn` throws is thrown on, the profiler being stopped;
   * {@link Profiler.lastRecord} has what ran until then.
   */
  async profile<T>(
    fn: () => T | Promise<T>,
    options: ProfileOptions = {},
  ): Promise<{ result: T; record: ProfileRecord }> {
    this.start(options)
    let result: T
    try {
      result = await fn()
    } catch (error) {
      try {
        this.stop()
      } catch {
        // What the program threw says more.
      }
      throw error
    }
    return { result, record: this.stop() }
  }

  /**
   * Starts a profile.
   *
   * @throws VllmOpsError `E_PROFILER` inside a profile.
   */
  start(options: ProfileOptions = {}): void {
    if (this.session) {
      throw new VllmOpsError('E_PROFILER', 'a profile is running already', {
        fix: 'Wait for its end, or mark parts of it with phase()',
      })
    }
    const calibration = this.native().profilerStart({
      tables: options.record === 'tables',
      shapes: options.shapes ?? true,
      memory: options.memory ?? true,
      threads: options.threads ?? true,
      device: this.cuda(),
    })
    this.flag[0] = 1
    const root = this.scopes.enter(this.scopes.defineLabel(ROOT_LABEL))
    const idleBefore = idleNs()
    this.session = { options, calibration, root, idleBefore, idle: new Map(), warnings: [] }
  }

  /**
   * Ends the profile.
   *
   * @throws VllmOpsError `E_PROFILER` where none is running
   */
  stop(): ProfileRecord {
    const { session } = this
    if (!session) return this.noProfile()
    session.idle.set(ROOT_LABEL, idleNs() - session.idleBefore)
    this.warnOfOpen(session, this.scopes.close(session.root))
    this.session = undefined
    this.flag[0] = 0
    const recorded = this.native().profilerStop()
    const root = { label: ROOT_LABEL, name: session.options.phase ?? 'run' }
    const common = { root, idle: session.idle }
    const record: ProfileRecord = {
      version: PROFILE_RECORD_VERSION,
      environment: environmentOf(this.native(), this.peaks),
      phases: [],
      warnings: session.warnings,
    }
    if (isTables(recorded)) {
      const cost = recordingCost(session.calibration, calibrationScopes(recorded))
      record.phases = phasesOfTables({ ...common, tables: recorded, cost })
    } else {
      const empty = recorded.filter(({ name }) => name === CALIBRATION_LABEL)
      const cost = recordingCost(
        session.calibration,
        empty.map(({ start, end }) => end - start),
      )
      for (const [graph, launches] of capturedGraphs(recorded)) this.graphs.set(graph, launches)
      record.phases = buildPhases({ ...common, events: recorded, cost, graphs: this.graphs })
      const open = recorded.filter(({ kind, start, end }) => kind === 'op' && end < start).length
      if (open > 0)
        record.warnings.push(`${open} ops of other threads had not ended; they count until the end`)
      // The end of a profile waits for the devices, which is a call of their runtime: there is always one.
      const inUse = this.cuda() ? this.native().devicesInUse() : []
      if (inUse.length > 0 && !recorded.some(({ kind }) => kind === 'runtime' || kind === 'kernel'))
        record.warnings.push(
          `no kernel of ${inUse.join(', ')} was recorded: another profiler may be attached, or this user may not profile (KINETO_LOG_LEVEL=0 says more)`,
        )
      if (session.options.trace) record.trace = traceOf(recorded)
    }
    this.last = record
    return record
  }

  /** @throws VllmOpsError `E_PROFILER`, for what needs a running profile */
  noProfile(): never {
    throw new VllmOpsError('E_PROFILER', 'no profile is running', { fix: 'Start one: using p = profile()' })
  }

  private warnOfOpen(session: Session, labels: readonly string[]): void {
    for (const label of labels) {
      const info = parseScopeLabel(label)
      const name = info?.kind === 'module' ? `${info.class}(${info.path})` : (info?.name ?? label)
      session.warnings.push(`the scope ${name} was left open; it ends with what it was opened in`)
    }
  }
}

/** Nanoseconds for which this thread's event loop has waited. eventLoopUtilization() does not know it before the loop's start. */
function idleNs(): number {
  return performance.nodeTiming.idleTime * 1e6
}

type Recorded = ReturnType<ProfilerNative['profilerStop']>

function isTables(recorded: Recorded): recorded is Exclude<Recorded, RawEvent[]> {
  return recorded.length > 0 && 'nodes' in recorded[0]!
}
