// SPDX-License-Identifier: Apache-2.0
// What a phase's table is made of, however it was recorded: the rows at its top and the rows that account for the rest.
import type { RecordingCost } from './calibration'
import { appendRows, merge, type Node, newNode } from './node'
import { ACCOUNTING_ROWS, type DeviceTimeline, type ProfilePhase, type ProfileRow } from './record'

/** One phase in the making. */
export class PhaseTree {
  /** How often the phase ran. */
  steps = 0
  /** What no module called. */
  readonly outside = newNode('other', ACCOUNTING_ROWS.outside)
  private readonly top = new Map<string, Node>()
  private readonly otherThreads = newNode('other', ACCOUNTING_ROWS.threads)
  private profilerCost = 0

  constructor(
    readonly name: string,
    private readonly cost: RecordingCost,
  ) {}

  /** The row of what another thread ran; there only if it is asked for. */
  threads(): Node {
    this.otherThreads.calls = 1
    return this.otherThreads
  }

  /** Where a call that `parent` made is booked. Scopes outside modules are rows at the top; the rest nests as it ran. */
  place(parent: Node, child: Node, isScope: boolean): Node {
    return merge(isScope && parent === this.outside ? this.top : parent.children, child)
  }

  /**
   * Books the time of `node` itself, less what recording cost: of the calls, if they are scopes, and of what they called
   * directly.
   */
  addOwnTime(
    node: Node,
    own: number,
    calls: { scopes: number },
    inside: { scopes: number; ops: number },
  ): void {
    const { scope, op } = this.cost
    const recording = calls.scopes * scope.inside + inside.scopes * scope.outside + inside.ops * op.outside
    const cost = Math.max(0, Math.min(own, recording))
    node.selfCpu += own - cost
    this.addCost(cost)
  }

  /** Books nanoseconds that went into recording. */
  addCost(nanoseconds: number): void {
    this.profilerCost += nanoseconds
  }

  /** The finished table. `idle`: nanoseconds in which the event loop waited. */
  finish(idle: number, devices: DeviceTimeline[]): ProfilePhase {
    const idleNode = newNode('other', ACCOUNTING_ROWS.idle)
    idleNode.selfCpu = Math.min(idle, this.outside.selfCpu)
    this.outside.selfCpu -= idleNode.selfCpu
    const profiler = newNode('other', ACCOUNTING_ROWS.profiler)
    profiler.selfCpu = this.profilerCost
    const nodes = [...this.top.values(), this.outside]
    if (this.otherThreads.calls > 0) nodes.push({ ...this.otherThreads, calls: 0 })
    nodes.push(idleNode, profiler)
    const rows: ProfileRow[] = []
    let total_cpu_us = 0
    let total_device_us = 0
    for (const node of nodes) {
      const row = appendRows(rows, node, null)
      total_cpu_us += row.total_cpu_us
      total_device_us += row.total_device_us
    }
    return { name: this.name, steps: this.steps, total_cpu_us, total_device_us, rows, devices }
  }
}
