// SPDX-License-Identifier: Apache-2.0
// The scopes that are open on a thread, natively one stack. Asynchronous ranges that run at the same time each have their
// own: while there are any, Node says when another asynchronous context goes on, and what is open on top becomes that
// context's. Such a range is left open natively only while its own code runs.
import { AsyncLocalStorage, createHook } from 'node:async_hooks'
import { VllmOpsError } from '../errors'
import type { Addon } from '../native'
import { type ScopeInfo, scopeLabel } from './labels'

/** Identifies a scope that was defined. */
export type ScopeId = number

/** A scope between its opening and its closing. */
export interface OpenScope {
  readonly id: ScopeId
  readonly isPhase: boolean
  /** Of an asynchronous range only. */
  readonly range: AsyncRange | undefined
}

/** An asynchronous range, and the one that it was opened in. */
interface AsyncRange {
  readonly id: ScopeId
  readonly outer: AsyncRange | undefined
  open: boolean
}

/** The scopes of one thread. */
export class ScopeStack {
  /** Labels by id, and the addon's numbers of those that were opened. */
  private readonly labels: string[] = []
  private readonly numbers: number[] = []
  private readonly ids = new Map<string, ScopeId>()
  /** What stands for a scope that is opened by {@link enter}, by id: it is the same every time. */
  private readonly plain: OpenScope[] = []
  /** Outermost first. */
  private readonly open: OpenScope[] = []
  private readonly storage = new AsyncLocalStorage<AsyncRange>()
  private readonly hook = createHook({
    before: () => this.switchTo(innermost(this.storage.getStore())),
    after: () => this.switchTo(undefined),
  })
  private ranges = 0

  constructor(private readonly native: () => Pick<Addon, 'scopeDefine' | 'scopeEnter' | 'scopeExit'>) {}

  /** Defines a scope once, to be entered many times. The same facts give the same id. */
  define(info: ScopeInfo): ScopeId {
    return this.defineLabel(scopeLabel(info))
  }

  /** Defines a scope by its label. */
  defineLabel(label: string): ScopeId {
    let id = this.ids.get(label)
    if (id === undefined) {
      id = this.labels.push(label) - 1
      this.ids.set(label, id)
      this.plain.push({ id, isPhase: false, range: undefined })
    }
    return id
  }

  /** The text of a scope in the record. */
  labelOf(id: ScopeId): string {
    return this.labels[id]!
  }

  /**
   * Opens a scope inside those that are open.
   *
   * @throws VllmOpsError `E_PROFILER` for an id that nobody defined
   */
  enter(id: ScopeId): OpenScope {
    const scope = this.plain[id]
    if (scope === undefined) {
      throw new VllmOpsError('E_PROFILER', `no scope ${id} is defined`, {
        fix: 'pass what defineScope() returned',
      })
    }
    return this.push(scope, false)
  }

  /** Opens a phase, to be closed by {@link close}. */
  enterPhase(id: ScopeId): OpenScope {
    return this.push({ id, isPhase: true, range: undefined }, false)
  }

  /** Closes the innermost scope of this id, and with it what was opened inside; nothing where none is open. */
  exit(id: ScopeId): void {
    const { open } = this
    let at = open.length - 1
    while (at >= 0 && open[at]!.id !== id) at--
    if (at >= 0) this.closeTo(at)
  }

  /** Closes this very scope, and with it what was opened inside: the labels of what was not a range of its own. */
  close(scope: OpenScope): string[] {
    const at = this.open.indexOf(scope)
    if (at < 0) return []
    const inside = this.open.slice(at + 1).filter(({ range }) => !range)
    const labels = inside.map(({ id }) => this.labelOf(id))
    this.closeTo(at)
    return labels
  }

  /** Whether a phase is open. */
  inPhase(): boolean {
    return this.open.some(({ isPhase }) => isPhase)
  }

  /** Runs `fn` in a scope that follows it across `await`. */
  async range<T>(id: ScopeId, fn: () => T | Promise<T>): Promise<T> {
    const outer = innermost(this.storage.getStore())
    const range: AsyncRange = { id, outer, open: true }
    if (this.ranges++ === 0) this.hook.enable()
    const scope = this.push({ id, isPhase: false, range }, false)
    try {
      const pending = this.storage.run(range, fn)
      this.close(scope)
      return await pending
    } finally {
      range.open = false
      // Nothing but what throws at once is open here by itself.
      this.close(scope)
      this.switchTo(innermost(range))
      if (--this.ranges === 0) this.hook.disable()
    }
  }

  /** Makes the ranges on top of the stack those of the context that goes on. */
  private switchTo(range: AsyncRange | undefined): void {
    // What is below a phase or a module stays: it is not for a range to close them.
    const base = this.open.findLastIndex((scope) => !scope.range) + 1
    const fixed = this.open.slice(0, base).map((scope) => scope.range)
    const wanted: AsyncRange[] = []
    for (let each = range; each; each = each.outer) {
      if (each.open && !fixed.includes(each)) wanted.unshift(each)
    }
    let common = 0
    while (common < wanted.length && this.open[base + common]?.range === wanted[common]) common++
    this.closeTo(base + common)
    for (const each of wanted.slice(common)) this.push({ id: each.id, isPhase: false, range: each }, true)
  }

  private push(scope: OpenScope, resumed: boolean): OpenScope {
    const { id } = scope
    const native = this.native()
    this.numbers[id] ??= native.scopeDefine(this.labelOf(id))
    native.scopeEnter(scopeCode(this.numbers[id], resumed, scope.isPhase && !this.inPhase()))
    this.open.push(scope)
    return scope
  }

  private closeTo(depth: number): void {
    for (; this.open.length > depth; this.open.pop()) this.native().scopeExit()
  }
}

/** What the addon's `scopeEnter` gets: one number, since each further argument would take as long as the rest of it. */
export function scopeCode(number: number, resumed: boolean, isPart: boolean): number {
  return number * 4 + (resumed ? 1 : 0) + (isPart ? 2 : 0)
}

/** The innermost range that has not ended: what an async function left running outlives its own. */
function innermost(range: AsyncRange | undefined): AsyncRange | undefined {
  let open = range
  while (open && !open.open) open = open.outer
  return open
}
