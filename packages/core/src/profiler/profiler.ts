// SPDX-License-Identifier: Apache-2.0
import { arch, availableParallelism, cpus, platform } from 'node:os'
import { performance } from 'node:perf_hooks'
import { VllmOpsError } from '../errors'
import type { Addon } from '../native'
import { CALIBRATION_LABEL, CALIBRATION_SCOPES, scopeCost } from './calibration'
import { type ScopeInfo, scopeLabel } from './labels'
import type { RawEvent } from './raw-event'
import { PROFILE_RECORD_VERSION, type ProfileEnvironment, type ProfileRecord } from './record'
import { buildPhases } from './tree'

/** What the profiler needs of the addon. */
export type ProfilerNative = Pick<
  Addon,
  'profilerStart' | 'profilerStop' | 'scopeEnter' | 'scopeExit' | 'torchVersion' | 'getNumThreads'
>

/** Identifies a scope that was defined. */
export type ScopeId = number

export interface ProfileOptions {
  /** Name of the phase if none is marked by {@link Profiler.phase}; `run` by default. */
  phase?: string | undefined
  /** Record types and sizes of the arguments: true by default. Without, calls of an op merge whatever they got. */
  shapes?: boolean | undefined
}

/** Above every level that Kineto has. */
const KINETO_SILENT = '99'
const ROOT_LABEL = 'vllm-ops: profile'

/** A scope between its opening and its closing. */
interface OpenScope {
  /** Undefined for scopes of the profiler's own. */
  id: ScopeId | undefined
  isPhase: boolean
}

/** The profiler of a process: PyTorch's own, and the scopes that say which module an op belongs to. */
export class Profiler {
  private active = false
  /** Labels by id, and what they stand for. */
  private readonly labels: string[] = []
  private readonly scopes = new Map<string, { id: ScopeId; info: ScopeInfo }>()
  /** Scopes that are open while profiling, outermost first. */
  private readonly open: OpenScope[] = []
  private idle = new Map<string, number>()

  /** @param cuda says whether there are kernels on CUDA to record */
  constructor(
    private readonly native: () => ProfilerNative,
    private readonly cuda: () => boolean,
  ) {}

  /** Whether a profile is running, that is, whether scopes are recorded. */
  profiling(): boolean {
    return this.active
  }

  /** Defines a scope once, to be entered many times. The same facts give the same id. */
  defineScope(info: ScopeInfo): ScopeId {
    const label = scopeLabel(info)
    const known = this.scopes.get(label)
    if (known) return known.id
    const id = this.labels.push(label) - 1
    this.scopes.set(label, { id, info })
    return id
  }

  /** Opens a scope inside those that are open. Does nothing while not profiling. */
  enterScope(id: ScopeId): void {
    if (!this.active) return
    const label = this.labels[id]
    if (label === undefined) {
      throw new VllmOpsError('E_PROFILER', `no scope ${id} is defined`, {
        fix: 'pass what defineScope() returned',
      })
    }
    this.push(label, id)
  }

  /**
   * Closes a scope, and with it what was opened inside and left open, as by a throw. Does nothing for a scope that is
   * not open, as one that was entered before the profile began.
   */
  exitScope(id: ScopeId): void {
    const at = this.open.findLastIndex((scope) => scope.id === id)
    if (at >= 0) this.closeTo(at)
  }

  /**
   * Marks what `fn` does as one phase of the running profile; phases of one name are added up, and a phase inside a
   * phase is part of it. Where phases are marked, what runs outside them is left out. Only calls `fn` while not
   * profiling.
   */
  async phase<T>(name: string, fn: () => T | Promise<T>): Promise<T> {
    if (!this.active) return await fn()
    const id = this.defineScope({ kind: 'phase', name })
    return await this.inside(this.labels[id]!, fn)
  }

  /**
   * Runs `fn` and returns its result with a record of the ops that it ran, by module and phase.
   *
   * @throws VllmOpsError `E_PROFILER` inside a profile. What `fn` throws is thrown on, the profiler being stopped.
   */
  async profile<T>(
    fn: () => T | Promise<T>,
    options: ProfileOptions = {},
  ): Promise<{ result: T; record: ProfileRecord }> {
    if (this.active) {
      throw new VllmOpsError('E_PROFILER', 'a profile is running already', {
        fix: 'wait for its end, or mark parts of it with phase()',
      })
    }
    const name = options.phase ?? 'run'
    const native = this.native()
    const cuda = this.cuda()
    // Kineto talks on stderr, without a GPU about the missing GPU. It reads this when it is first started.
    if (!cuda) process.env.KINETO_LOG_LEVEL ??= KINETO_SILENT
    native.profilerStart(options.shapes ?? true, cuda)
    this.active = true
    this.idle = new Map()
    let result: T
    let events: RawEvent[]
    try {
      for (let i = 0; i < CALIBRATION_SCOPES; i++) {
        native.scopeEnter(CALIBRATION_LABEL)
        native.scopeExit()
      }
      result = await this.inside(ROOT_LABEL, fn)
    } finally {
      this.active = false
      events = native.profilerStop()
    }
    const phases = buildPhases({
      events,
      scope: (label) => this.scopes.get(label)?.info,
      root: { label: ROOT_LABEL, name },
      idle: this.idle,
      scopeCost: scopeCost(events),
    })
    return { result, record: { version: PROFILE_RECORD_VERSION, environment: this.environment(), phases } }
  }

  private environment(): ProfileEnvironment {
    const native = this.native()
    return {
      torch: native.torchVersion,
      node: process.version,
      platform: `${platform()}-${arch()}`,
      cpu: cpus()[0]?.model.trim() ?? 'unknown',
      cores: availableParallelism(),
      threads: native.getNumThreads(),
    }
  }

  /** Runs `fn` in a scope of this label, and books for the label how long the event loop waited meanwhile. */
  private async inside<T>(label: string, fn: () => T | Promise<T>): Promise<T> {
    const isNested = this.open.some((scope) => scope.isPhase)
    const before = performance.eventLoopUtilization()
    const scope = this.push(label, undefined, label !== ROOT_LABEL)
    try {
      return await fn()
    } finally {
      // By identity: a phase of the same name may be open inside or have followed.
      const at = this.open.indexOf(scope)
      if (at >= 0) this.closeTo(at)
      const { idle } = performance.eventLoopUtilization(before)
      if (!isNested) this.idle.set(label, (this.idle.get(label) ?? 0) + idle * 1e6)
    }
  }

  private push(label: string, id?: ScopeId, isPhase = false): OpenScope {
    this.native().scopeEnter(label)
    const scope = { id, isPhase }
    this.open.push(scope)
    return scope
  }

  private closeTo(depth: number): void {
    while (this.open.length > depth) {
      this.open.pop()
      this.native().scopeExit()
    }
  }
}
