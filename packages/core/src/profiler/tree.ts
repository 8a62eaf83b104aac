// SPDX-License-Identifier: Apache-2.0
// From the profiler's flat list of events to the rows of each phase. Host events nest by time on their thread; device
// events hang under the op that launched them. Every nanosecond of a phase ends in exactly one row's self time: a
// row's self time is its duration less that of what nests directly inside, and the accounting rows take the rest.
import type { RecordingCost } from './calibration'
import { costOf } from './costs'
import { attributeReplays, type CapturedGraphs } from './graphs'
import { parseScopeLabel, RESUMED } from './labels'
import { addDuration, describeCall, merge, type Node, newNode } from './node'
import { PhaseTree } from './phase-tree'
import type { RawEvent } from './raw-event'
import type { ProfilePhase } from './record'
import { deviceTimelines } from './timeline'

export interface TreeInput {
  events: readonly RawEvent[]
  /** The scope around everything profiled: the only phase if none was marked inside. */
  root: { label: string; name: string }
  /** Nanoseconds in which the event loop waited, by the label of the phase. */
  idle: ReadonlyMap<string, number>
  cost: RecordingCost
  /** What the graphs that may be replayed were captured from. */
  graphs?: CapturedGraphs | undefined
}

/**
 * The phases of a profile with their rows. Phases of one name are added up; what ran outside every marked phase
 * (a warm-up) is in none.
 */
export function buildPhases(input: TreeInput): ProfilePhase[] {
  const threads = hostEventsByThread(input.events)
  const onDevice = input.events.some(({ kind, device }) => kind === 'memory' && device !== 'cpu')
  const phases = new Map<string, EventPhase>()
  for (const { name, event } of phaseWindows(input, threads)) {
    let phase = phases.get(name)
    if (!phase) {
      phase = new EventPhase(name, input.cost, event.name, onDevice)
      phases.set(name, phase)
    }
    phase.addWindow(event, threads)
  }
  const kernels = input.events.filter(({ kind }) => kind === 'kernel').sort((a, b) => a.start - b.start)
  const all = [...phases.values()]
  const replays = attributeReplays(input.events, kernels, input.graphs)
  for (const event of kernels) addKernel(event, all, replays.get(event))
  return all.map((phase) => phase.finishWith(input))
}

/** A host event that is open at the present point of the walk over one thread. */
interface Frame {
  node: Node
  start: number
  end: number
  isScope: boolean
  /** Whether what the event computes is counted already, in it or in what called it. */
  costed: boolean
  /** Duration of the events directly inside. */
  used: number
  /** Number of scopes and ops directly inside. */
  scopes: number
  ops: number
  /** Bytes held at the start, and the most since. */
  held: number
  mostHeld: number
}

type Threads = ReadonlyMap<number, readonly RawEvent[]>

/** One phase out of events. */
class EventPhase extends PhaseTree {
  private readonly ops = new Map<number, Node>()
  /** Calls into the device's runtime by their correlation, and what made them. */
  private readonly runtime = new Map<number, { caller: Node; event: RawEvent }>()
  private readonly windows: RawEvent[] = []
  private readonly kernels: RawEvent[] = []
  private held = 0

  constructor(
    name: string,
    cost: RecordingCost,
    private readonly label: string,
    /** Whether the memory to count is a device's. */
    private readonly onDevice: boolean,
  ) {
    super(name, cost)
  }

  /** Adds the host events of one run of the phase. */
  addWindow(window: RawEvent, threads: Threads): void {
    this.windows.push(window)
    this.steps++
    for (const [thread, events] of threads) {
      const inside = eventsWithin(events, window)
      const bottom = {
        ...{ start: window.start, end: window.end, costed: false, used: 0, scopes: 0, ops: 0 },
        ...{ held: this.held, mostHeld: this.held },
      }
      if (thread === window.thread) {
        this.close(this.nest(inside, { ...bottom, node: this.outside, isScope: true }))
      } else if (inside.length > 0) {
        // Only what the thread recorded counts: the frame itself has no time of its own.
        this.nest(inside, { ...bottom, node: this.threads(), isScope: false })
      }
    }
  }

  /** What launched a kernel, if it ran in this phase: what made the call into the runtime, or the op that Kineto names. */
  launcher(event: RawEvent): Node | undefined {
    return (
      this.runtime.get(event.correlation)?.caller ?? (event.linked ? this.ops.get(event.linked) : undefined)
    )
  }

  covers(time: number): boolean {
    return this.windows.some((window) => window.start <= time && time < window.end)
  }

  /** The node at a path of names that a captured graph remembers, made where it did not run in this phase. */
  nodeAt(path: readonly Node[]): Node {
    let node = this.outside
    for (const step of path) {
      const isScope = step.kind === 'module' || step.kind === 'other'
      node = this.place(node, { ...newNode(step.kind, step.name, step.path), ...identity(step) }, isScope)
    }
    return node
  }

  addKernel(event: RawEvent, launcher: Node | undefined): void {
    const kernel = newNode('kernel', event.name, launcher?.path)
    const node = merge((launcher ?? this.outside).children, { ...kernel, device: event.device })
    const took = Math.max(0, event.end - event.start)
    node.calls++
    node.launches++
    node.selfDevice += took
    addDuration(node, took)
    this.kernels.push(event)
  }

  finishWith(input: TreeInput): ProfilePhase {
    const launches = new Map([...this.runtime].map(([id, { event }]) => [id, event]))
    return this.finish(input.idle.get(this.label) ?? 0, deviceTimelines(this.kernels, launches))
  }

  /** Walks over one thread's events, which lie inside `bottom`, in the order of their start. Returns `bottom`. */
  private nest(events: readonly RawEvent[], bottom: Frame): Frame {
    const open = [bottom]
    for (const event of events) {
      while (open.length > 1 && open[open.length - 1]!.end <= event.start) this.leave(open)
      const parent = open[open.length - 1]!
      if (event.kind === 'memory') this.addMemory(parent, event)
      else open.push(this.enter(parent, event))
    }
    while (open.length > 1) this.leave(open)
    return bottom
  }

  private leave(open: Frame[]): void {
    const frame = open.pop()!
    this.close(frame)
    const parent = open[open.length - 1]!
    parent.mostHeld = Math.max(parent.mostHeld, frame.mostHeld)
  }

  private close(frame: Frame): void {
    const { node, start, end, used, isScope, scopes, ops } = frame
    node.peak = Math.max(node.peak, frame.mostHeld - frame.held)
    this.addOwnTime(node, end - start - used, { scopes: isScope ? 1 : 0 }, { scopes, ops })
  }

  private addMemory(frame: Frame, event: RawEvent): void {
    if (this.onDevice !== (event.device !== 'cpu')) return
    this.held += event.bytes
    frame.mostHeld = Math.max(frame.mostHeld, this.held)
    if (event.bytes > 0) frame.node.allocated += event.bytes
  }

  /** Opens a frame for an event, booked in the node that it counts in. */
  private enter(parent: Frame, event: RawEvent): Frame {
    // An event that was never ended, or that clocks make end a little late, ends with what it is in.
    const end = event.end < event.start ? parent.end : Math.min(event.end, parent.end)
    const isScope = event.kind === 'scope'
    parent.used += end - event.start
    if (isScope) parent.scopes++
    else if (event.kind === 'op') parent.ops++
    const resumed = isScope && event.name.startsWith(RESUMED)
    const name = resumed ? event.name.slice(RESUMED.length) : event.name
    const scope = isScope ? parseScopeLabel(name) : undefined
    const frame = { node: parent.node, start: event.start, end, isScope, costed: parent.costed }
    const empty = { used: 0, scopes: 0, ops: 0, held: this.held, mostHeld: this.held }
    // A phase inside a phase is no row: what runs in it runs in the outer one.
    if (scope?.kind === 'phase') return { ...frame, ...empty }
    const node = this.place(parent.node, describeCall({ ...event, name }, scope, parent.node.path), isScope)
    if (!resumed) {
      node.calls++
      addDuration(node, end - event.start)
    }
    if (event.kind === 'runtime') this.runtime.set(event.correlation, { caller: parent.node, event })
    else if (event.correlation !== 0) this.ops.set(event.correlation, node)
    if (!frame.costed && event.kind === 'op') {
      const cost = costOf(node.name, node.dtypes, event.shapes, event.scalars)
      node.flops += cost?.flops ?? 0
      node.bytes += cost?.bytes ?? 0
      frame.costed = cost !== undefined
    }
    return { ...frame, ...empty, node }
  }
}

function identity({ weight, device, shapes, dtypes }: Node): Partial<Node> {
  return { weight, device, shapes, dtypes }
}

/** What each thread of the host recorded, in the order of start, what encloses before what it encloses. */
function hostEventsByThread(events: readonly RawEvent[]): Map<number, RawEvent[]> {
  const threads = new Map<number, RawEvent[]>()
  for (const event of events) {
    if (event.kind === 'kernel') continue
    const thread = threads.get(event.thread)
    if (thread) thread.push(event)
    else threads.set(event.thread, [event])
  }
  for (const thread of threads.values()) thread.sort(byStart)
  return threads
}

/** Only ops and scopes are numbered in the order of their start. */
function isNumbered({ kind, correlation }: RawEvent): boolean {
  return correlation !== 0 && (kind === 'op' || kind === 'scope')
}

function byStart(a: RawEvent, b: RawEvent): number {
  return a.start - b.start || (isNumbered(a) && isNumbered(b) ? a.correlation - b.correlation : b.end - a.end)
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
      const scope = parseScopeLabel(event.name)
      if (scope?.kind !== 'phase' || event.start < end) continue
      windows.push({ name: scope.name, event })
      end = event.end
    }
  }
  if (windows.length > 0) return windows.sort((a, b) => a.event.start - b.event.start)
  return root ? [{ name: input.root.name, event: root }] : []
}

/** Books a kernel under the op that launched it, or outside modules in the phase during which it ran. */
function addKernel(
  event: RawEvent,
  phases: readonly EventPhase[],
  replayed: readonly Node[] | undefined,
): void {
  for (const phase of phases) {
    const launcher = phase.launcher(event)
    if (!launcher) continue
    phase.addKernel(event, replayed ? phase.nodeAt(replayed) : launcher)
    return
  }
  phases.find((phase) => phase.covers(event.start))?.addKernel(event, undefined)
}
