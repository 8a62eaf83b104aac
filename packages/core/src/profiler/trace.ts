// SPDX-License-Identifier: Apache-2.0
import { CALIBRATION_LABEL } from './calibration'
import { describeArguments, parseScopeLabel, RESUMED, torchDtype } from './labels'
import type { RawEvent } from './raw-event'
import type { ProfileTrace, TraceEvent } from './record'

/** The events of a profile as a record keeps them, in the order of their start. */
export function traceOf(events: readonly RawEvent[]): ProfileTrace {
  const timed = events.filter(({ kind, name }) => kind !== 'memory' && !name.startsWith(CALIBRATION_LABEL))
  timed.sort((a, b) => a.start - b.start || b.end - a.end)
  return { events: timed.map(traceEvent) }
}

function traceEvent(event: RawEvent): TraceEvent {
  const label = event.name.startsWith(RESUMED) ? event.name.slice(RESUMED.length) : event.name
  const scope = event.kind === 'scope' ? parseScopeLabel(label) : undefined
  const onDevice = event.kind === 'kernel'
  const times = { start_us: event.start / 1000, duration_us: Math.max(0, event.end - event.start) / 1000 }
  const place = { device: event.device, track: onDevice ? event.stream : event.thread }
  const launch = onDevice || event.kind === 'runtime' ? event.correlation : 0
  if (scope?.kind === 'module') {
    const weight = scope.weight ? `weight=${scope.weight}` : ''
    const detail = [scope.path, weight].filter(Boolean).join(' ')
    return { kind: 'module', name: scope.class, ...times, ...place, launch, detail }
  }
  const kind = scope?.kind === 'phase' ? 'phase' : onDevice ? 'kernel' : event.kind === 'op' ? 'op' : 'other'
  const detail = event.kind === 'op' ? describeArguments(event.dtypes.map(torchDtype), event.shapes) : ''
  return { kind, name: scope?.name ?? label, ...times, ...place, launch, detail }
}
