// SPDX-License-Identifier: Apache-2.0
// From the profiler's flat list of events to the rows of each phase. Host events nest by time on their thread; device
// events hang under the op that launched them. Every nanosecond of a phase ends in exactly one row's self time: a
// row's self time is its duration less that of what nests directly inside, and the accounting rows take the rest.
import type { ScopeCost } from './calibration'
import { type ScopeInfo, torchDtype } from './labels'
import type { RawEvent } from './raw-event'
import {
  ACCOUNTING_ROWS,
  type ProfilePhase,
  type ProfileRow,
  type ProfileRowKind,
  type RowIdentity,
  rowKey,
} from './record'

export interface TreeInput {
  events: readonly RawEvent[]
  /** Finds what a scope's label stands for; undefined for scopes of others. */
  scope: (label: string) => ScopeInfo | undefined
  /** The scope around everything profiled: the only phase if none was marked inside. */
  root: { label: string; name: string }
  /** Nanoseconds in which the event loop waited, by the label of the phase. */
  idle: ReadonlyMap<string, number>
  scopeCost: ScopeCost
}

/**
 * The phases of a profile with their rows. Phases of one name are added up; what ran outside every marked phase
 * (a warm-up) is in none.
 */
export function buildPhases(input: TreeInput): ProfilePhase[] {
  const threads = hostEventsByThread(input.events)
  const phases = new Map<string, PhaseTree>()
  for (const { name, event } of phaseWindows(input, threads)) {
    let phase = phases.get(name)
    if (!phase) {
      phase = new PhaseTree(name, input)
      phases.set(name, phase)
    }
    phase.addWindow(event, threads)
  }
  for (const event of input.events) {
    if (isDeviceEvent(event)) addDeviceEvent(event, [...phases.values()])
  }
  return [...phases.values()].map((phase) => phase.finish())
}

/** Merged equal siblings, while the tree grows. Times in nanoseconds. */
interface Node extends RowIdentity {
  calls: number
  selfCpu: number
  selfDevice: number
  children: Map<string, Node>
}

/** A host event that is open at the present point of the walk over one thread. */
interface Frame {
  node: Node
  start: number
  end: number
  isScope: boolean
  /** Duration of the events directly inside. */
  used: number
  /** Number of scopes directly inside. */
  scopes: number
}

type Threads = ReadonlyMap<number, readonly RawEvent[]>

/** One phase in the making. */
class PhaseTree {
  /** Rows at the top, then the accounting rows. */
  private readonly top = new Map<string, Node>()
  private readonly outside = newNode('other', ACCOUNTING_ROWS.outside)
  private readonly otherThreads = newNode('other', ACCOUNTING_ROWS.threads)
  private readonly ops = new Map<number, Node>()
  private readonly windows: RawEvent[] = []
  private profilerCost = 0

  constructor(
    readonly name: string,
    private readonly input: TreeInput,
  ) {}

  /** Adds the host events of one run of the phase. */
  addWindow(window: RawEvent, threads: Threads): void {
    this.windows.push(window)
    for (const [thread, events] of threads) {
      const inside = eventsWithin(events, window)
      if (thread === window.thread) {
        const frame = this.nest(inside, { node: this.outside, ...window, isScope: true, used: 0, scopes: 0 })
        this.close(frame)
      } else if (inside.length > 0) {
        this.otherThreads.calls++
        // Only what the thread recorded counts: the frame itself has no time of its own.
        this.nest(inside, { node: this.otherThreads, ...window, isScope: false, used: 0, scopes: 0 })
      }
    }
  }

  /** The node of the op or scope with this correlation id, if it ran in this phase. */
  launcher(correlation: number): Node | undefined {
    return this.ops.get(correlation)
  }

  covers(time: number): boolean {
    return this.windows.some((window) => window.start <= time && time < window.end)
  }

  addDeviceEvent(event: RawEvent, launcher: Node | undefined): void {
    const kernel = newNode('kernel', event.name, launcher?.path)
    const node = merge((launcher ?? this.outside).children, { ...kernel, device: event.device })
    node.calls++
    node.selfDevice += Math.max(0, event.end - event.start)
  }

  finish(): ProfilePhase {
    const idle = this.input.idle.get(this.windows[0]!.name) ?? 0
    const idleNode = newNode('other', ACCOUNTING_ROWS.idle)
    idleNode.selfCpu = Math.min(idle, this.outside.selfCpu)
    this.outside.selfCpu -= idleNode.selfCpu
    const profiler = newNode('other', ACCOUNTING_ROWS.profiler)
    profiler.selfCpu = this.profilerCost

    const nodes = [...this.top.values(), this.outside]
    if (this.otherThreads.calls > 0) nodes.push(this.otherThreads)
    nodes.push(idleNode, profiler)
    const rows: ProfileRow[] = []
    let totalCpu = 0
    let totalDevice = 0
    for (const node of nodes) {
      const row = appendRows(rows, node, null)
      totalCpu += row.total_cpu_us
      totalDevice += row.total_device_us
    }
    return { name: this.name, total_cpu_us: totalCpu, total_device_us: totalDevice, rows }
  }

  /** Walks over one thread's events, which lie inside `bottom`, in the order of their start. Returns `bottom`. */
  private nest(events: readonly RawEvent[], bottom: Frame): Frame {
    const open = [bottom]
    for (const event of events) {
      while (open.length > 1 && open[open.length - 1]!.end <= event.start) this.close(open.pop()!)
      const parent = open[open.length - 1]!
      // An event that was never ended, or that clocks make end a little late, ends with what it is in.
      const end = event.end < event.start ? parent.end : Math.min(event.end, parent.end)
      const isScope = event.kind === 'scope'
      parent.used += end - event.start
      if (isScope) parent.scopes++
      const node = this.enter(parent, event)
      if (event.correlation !== 0 && event.kind !== 'other') this.ops.set(event.correlation, node)
      open.push({ node, start: event.start, end, isScope, used: 0, scopes: 0 })
    }
    while (open.length > 1) this.close(open.pop()!)
    return bottom
  }

  /** Takes what scopes cost out of the frame's own time, and books both. */
  private close(frame: Frame): void {
    const { inside, outside } = this.input.scopeCost
    const own = frame.end - frame.start - frame.used
    const cost = Math.min(own, (frame.isScope ? inside : 0) + frame.scopes * outside)
    frame.node.selfCpu += own - cost
    this.profilerCost += cost
  }

  /** The node that `event` counts in. Scopes outside modules are rows at the top; the rest nests as it ran. */
  private enter(parent: Frame, event: RawEvent): Node {
    const scope = event.kind === 'scope' ? this.input.scope(event.name) : undefined
    // A phase inside a phase is no row: what runs in it runs in the outer one.
    if (scope?.kind === 'phase') return parent.node
    const atTop = event.kind === 'scope' && parent.node === this.outside
    const node = merge(atTop ? this.top : parent.node.children, describe(event, scope, parent.node.path))
    node.calls++
    return node
  }
}

/** The node of one event below a module at `path`. */
function describe(event: RawEvent, scope: ScopeInfo | undefined, path: string): Node {
  if (scope?.kind === 'module') {
    return { ...newNode('module', scope.class, scope.path), weight: scope.weight ?? null }
  }
  if (event.kind === 'scope') return newNode('other', scope?.name ?? event.name, path)
  const node = newNode(event.kind === 'op' ? 'op' : 'other', event.name, path)
  return { ...node, shapes: event.shapes, dtypes: event.dtypes.map(torchDtype) }
}

function newNode(kind: ProfileRowKind, name: string, path = ''): Node {
  const none = { weight: null, shapes: [], dtypes: [], calls: 0, selfCpu: 0, selfDevice: 0 }
  return { ...none, kind, name, path, device: 'cpu', children: new Map() }
}

/** The sibling equal to `node` if there is one, else `node`, which then is one of them. */
function merge(siblings: Map<string, Node>, node: Node): Node {
  const key = rowKey(node)
  const equal = siblings.get(key)
  if (equal) return equal
  siblings.set(key, node)
  return node
}

/** Appends `node` and all below it; totals come from the bottom up. */
function appendRows(rows: ProfileRow[], node: Node, parent: number | null): ProfileRow {
  const { kind, name, path, weight, device, shapes, dtypes, calls } = node
  const self_cpu_us = node.selfCpu / 1000
  const self_device_us = node.selfDevice / 1000
  const row: ProfileRow = {
    ...{ id: rows.length, parent, kind, name, path, weight, device, shapes, dtypes, calls },
    ...{ self_cpu_us, total_cpu_us: self_cpu_us, self_device_us, total_device_us: self_device_us },
  }
  rows.push(row)
  for (const child of node.children.values()) {
    const { total_cpu_us, total_device_us } = appendRows(rows, child, row.id)
    row.total_cpu_us += total_cpu_us
    row.total_device_us += total_device_us
  }
  return row
}

function isDeviceEvent(event: RawEvent): boolean {
  return event.device !== 'cpu'
}

/** What each thread of the host recorded, in the order of start, what encloses before what it encloses. */
function hostEventsByThread(events: readonly RawEvent[]): Map<number, RawEvent[]> {
  const threads = new Map<number, RawEvent[]>()
  for (const event of events) {
    if (isDeviceEvent(event)) continue
    const thread = threads.get(event.thread)
    if (thread) thread.push(event)
    else threads.set(event.thread, [event])
  }
  for (const thread of threads.values()) thread.sort(byStart)
  return threads
}

function byStart(a: RawEvent, b: RawEvent): number {
  const numbered = a.correlation !== 0 && b.correlation !== 0
  return a.start - b.start || (numbered ? a.correlation - b.correlation : b.end - a.end)
}

/** The events that started within `window`, itself left out. */
function eventsWithin(events: readonly RawEvent[], window: RawEvent): RawEvent[] {
  let from = 0
  for (let to = events.length; from < to; ) {
    const middle = (from + to) >> 1
    if (events[middle]!.start < window.start) from = middle + 1
    else to = middle
  }
  const inside: RawEvent[] = []
  for (let i = from; i < events.length && events[i]!.start < window.end; i++) {
    // What stands before the window with the same start encloses it.
    if (events[i] === window) inside.length = 0
    else inside.push(events[i]!)
  }
  return inside
}

/** The outermost phases that were marked, or the root if none was. */
function phaseWindows(input: TreeInput, threads: Threads): { name: string; event: RawEvent }[] {
  const windows: { name: string; event: RawEvent }[] = []
  let root: RawEvent | undefined
  for (const events of threads.values()) {
    let end = Number.NEGATIVE_INFINITY
    for (const event of events) {
      if (event.kind !== 'scope') continue
      if (event.name === input.root.label) root = event
      const scope = input.scope(event.name)
      if (scope?.kind !== 'phase' || event.start < end) continue
      windows.push({ name: scope.name, event })
      end = event.end
    }
  }
  if (windows.length > 0) return windows.sort((a, b) => a.event.start - b.event.start)
  return root ? [{ name: input.root.name, event: root }] : []
}

/** Books a kernel under the op that launched it, or outside modules in the phase during which it ran. */
function addDeviceEvent(event: RawEvent, phases: readonly PhaseTree[]): void {
  for (const phase of phases) {
    const launcher = event.linked === 0 ? undefined : phase.launcher(event.linked)
    if (launcher) {
      phase.addDeviceEvent(event, launcher)
      return
    }
  }
  phases.find((phase) => phase.covers(event.start))?.addDeviceEvent(event, undefined)
}
