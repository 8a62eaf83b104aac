// SPDX-License-Identifier: Apache-2.0
import { RESUMED } from '../src/profiler/labels'
import type { ProfilerNative } from '../src/profiler/profiler'
import type { RawEvent } from '../src/profiler/raw-event'

/** A generator of uniform numbers in [0, 1), the same for the same seed (mulberry32). */
export function uniform(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A host event of thread 1 with what it launched; times in nanoseconds. */
export function event(kind: RawEvent['kind'], name: string, start: number, end: number, more = {}): RawEvent {
  const none = {
    thread: 1,
    device: 'cpu',
    correlation: 0,
    linked: 0,
    stream: 0,
    bytes: 0,
    shapes: [],
    dtypes: [],
    scalars: [],
  }
  return { kind, name, start, end, ...none, ...more }
}

/** The native side of a profiler with a clock that only moves when told, so that every time is known. */
export class FakeNative implements ProfilerNative {
  now = 0
  recording = false
  events: RawEvent[] = []
  private readonly labels: string[] = []
  private open: RawEvent[] = []

  profilerStart(): { op: number; recordedOp: number; recordedScope: number } {
    this.recording = true
    this.events = []
    return { op: 0, recordedOp: 0, recordedScope: 0 }
  }

  profilerStop(): RawEvent[] {
    this.recording = false
    return this.events
  }

  scopeDefine(label: string): number {
    return this.labels.push(label) - 1
  }

  scopeEnter(code: number): void {
    const label = this.labels[code >> 2]!
    this.enter(code & 1 ? `${RESUMED}${label}` : label)
  }

  private enter(label: string): void {
    const scope = event('scope', label, this.now, -1, { correlation: this.events.length + 1 })
    this.open.push(scope)
    if (this.recording) this.events.push(scope)
  }

  scopeExit(): void {
    this.open.pop()!.end = this.now
  }

  inUse: string[] = []
  devicesInUse = () => this.inUse
  readonly torchVersion = '2.13.0'
  getNumThreads = () => 2

  /** Runs an op of `ns` nanoseconds, `inside` being what it calls first. */
  op(name: string, ns: number, types: { dtypes: string[]; shapes: number[][] }, inside?: () => void): void {
    const call = event('op', name, this.now, -1, { ...types, correlation: this.events.length + 1 })
    this.events.push(call)
    inside?.()
    this.now += ns
    call.end = this.now
  }
}
