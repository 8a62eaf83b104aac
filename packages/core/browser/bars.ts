// SPDX-License-Identifier: Apache-2.0
// Stacked bars: where the time of each phase went, by module and by kernel (by op where no device was used).

import { groupRows } from '../src/profiler/group'
import { shortKernelName } from '../src/profiler/kernel-name'
import type { ProfilePhase, ProfileRecord, ProfileRow } from '../src/profiler/record'
import { viewPhase } from '../src/profiler/view'
import { duration, element, tint } from './dom'

/** Parts of a bar that are named; the rest is one part. */
const PARTS = 10

interface Part {
  name: string
  us: number
}

/** The bars of all phases. */
export function stackedBars(record: ProfileRecord): HTMLElement {
  const charts = record.phases.some(({ total_device_us }) => total_device_us > 0)
    ? [chart(record, 'By module', byClass), chart(record, 'By kernel', (phase) => byKind(phase, 'kernel'))]
    : [chart(record, 'By module', byClass), chart(record, 'By op', (phase) => byKind(phase, 'op'))]
  return element('div', { class: 'charts' }, ...charts)
}

function timeOf(phase: ProfilePhase, { self_cpu_us, self_device_us }: ProfileRow): number {
  return phase.total_device_us > 0 ? self_device_us : self_cpu_us
}

function byClass(phase: ProfilePhase): Part[] {
  return groupRows(viewPhase(phase), 'class').map(({ row }) => ({ name: row.name, us: timeOf(phase, row) }))
}

function byKind(phase: ProfilePhase, kind: ProfileRow['kind']): Part[] {
  const parts = new Map<string, number>()
  for (const { row } of groupRows(viewPhase(phase), 'name')) {
    const name =
      row.kind === kind ? shortKernelName(row.name) : row.kind === 'module' ? '(modules)' : row.name
    parts.set(name, (parts.get(name) ?? 0) + timeOf(phase, row))
  }
  return [...parts].map(([name, us]) => ({ name, us }))
}

function chart(record: ProfileRecord, title: string, partsOf: (phase: ProfilePhase) => Part[]): HTMLElement {
  const rows = record.phases.map((phase) => bar(phase, partsOf(phase)))
  const names = new Set(rows.flatMap(({ shown }) => shown.map(({ name }) => name)))
  const legend = [...names].map((name) =>
    element('li', {}, element('span', { class: `swatch ${tint(name)}`, 'aria-hidden': true }), name),
  )
  return element(
    'figure',
    {},
    element('figcaption', {}, title),
    ...rows.map(({ line }) => line),
    element('ul', { class: 'legend' }, ...legend),
  )
}

function bar(phase: ProfilePhase, parts: Part[]): { line: HTMLElement; shown: Part[] } {
  const total = parts.reduce((sum, { us }) => sum + us, 0)
  const sorted = parts.filter(({ us }) => us > 0).sort((a, b) => b.us - a.us)
  const shown = sorted.slice(0, PARTS)
  const rest = sorted.slice(PARTS).reduce((sum, { us }) => sum + us, 0)
  if (rest > 0) shown.push({ name: '(rest)', us: rest })
  const segments = shown.map(({ name, us }) => {
    const share = (100 * us) / total
    const title = `${name}: ${duration(us)}, ${share.toFixed(1)} %`
    const segment = element('span', { class: `segment ${tint(name)}`, title }, share >= 9 ? name : '')
    segment.style.width = `${share}%`
    return segment
  })
  const label = `${phase.name}: ${shown.map(({ name, us }) => `${name} ${((100 * us) / total).toFixed(0)} %`).join(', ')}`
  const line = element(
    'div',
    { class: 'bar-line' },
    element('span', { class: 'bar-name' }, phase.name),
    element('div', { class: 'bar', role: 'img', 'aria-label': label }, ...segments),
    element('span', { class: 'bar-total' }, duration(total)),
  )
  return { line, shown }
}
