// SPDX-License-Identifier: Apache-2.0
// The trace format of Chrome, which Perfetto and speedscope read too.
import { VllmOpsError } from '../errors'
import type { ProfileRecord, TraceEvent } from './record'

/** One entry of the file. Times are microseconds. */
export interface ChromeEvent {
  name: string
  cat: string
  /** `X` a complete event, `M` metadata, `s` and `f` the ends of an arrow. */
  ph: 'X' | 'M' | 's' | 'f'
  ts: number
  dur?: number
  pid: number
  tid: number
  id?: number
  bp?: 'e'
  args: Record<string, string | number>
}

/** A file in Chrome's trace format. */
export interface ChromeTrace {
  displayTimeUnit: 'ms'
  otherData: Record<string, string>
  traceEvents: ChromeEvent[]
}

/**
 * Every event of a profile on a timeline: the host's threads with modules, ops and calls into the runtime nested, each device with its
 * streams, and arrows from launches to kernels. `JSON.stringify` of it is a file that Perfetto, speedscope and chrome://tracing open.
 *
 * @throws VllmOpsError `E_PROFILER` if the record has no events: profile with `{ trace: true }`
 */
export function chromeTrace(record: ProfileRecord): ChromeTrace {
  const { trace, environment } = record
  if (!trace) {
    throw new VllmOpsError('E_PROFILER', 'the record has no events', {
      fix: 'Keep them: profile(fn, { trace: true })',
    })
  }
  // One process of the file for the host and one for each device, as PyTorch's own files have it.
  const devices = [
    'cpu',
    ...new Set(trace.events.map(({ device }) => device).filter((name) => name !== 'cpu')),
  ]
  const pidOf = (device: string) => environment.process + devices.indexOf(device)
  const traceEvents: ChromeEvent[] = []
  for (const [i, device] of devices.entries()) {
    const name = device === 'cpu' ? `rank ${environment.rank}, host` : `rank ${environment.rank}, ${device}`
    const common = { cat: '__metadata', ph: 'M', ts: 0, pid: pidOf(device), tid: 0 } as const
    traceEvents.push(
      { ...common, name: 'process_name', args: { name } },
      { ...common, name: 'process_sort_index', args: { sort_index: i } },
    )
  }
  const tracks = new Map(trace.events.map(({ device, track }) => [`${device} ${track}`, { device, track }]))
  for (const { device, track } of tracks.values()) {
    const name = `${device === 'cpu' ? 'thread' : 'stream'} ${track}`
    const place = { cat: '__metadata', ph: 'M', ts: 0, pid: pidOf(device), tid: track } as const
    traceEvents.push({ ...place, name: 'thread_name', args: { name } })
  }
  for (const event of trace.events) traceEvents.push(...entriesOf(event, pidOf(event.device)))
  const { torch, node, cpu, platform } = environment
  return { displayTimeUnit: 'ms', otherData: { torch, node, cpu, platform }, traceEvents }
}

function entriesOf(event: TraceEvent, pid: number): ChromeEvent[] {
  const { kind, name, start_us: ts, duration_us: dur, track: tid, launch, detail } = event
  const args = detail ? { [kind === 'module' ? 'module' : 'arguments']: detail } : {}
  const complete: ChromeEvent = { name, cat: kind, ph: 'X', ts, dur, pid, tid, args }
  if (launch === 0) return [complete]
  const arrow = { name: 'launch', cat: 'launch', ts, pid, tid, id: launch, args: {} }
  if (kind === 'kernel') return [complete, { ...arrow, ph: 'f', bp: 'e' }]
  return [complete, { ...arrow, ph: 's' }]
}
