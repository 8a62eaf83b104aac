// SPDX-License-Identifier: Apache-2.0
import { shortName } from './columns'
import { describeArguments } from './labels'
import type { ProfileRecord } from './record'
import { type ViewNode, type ViewOptions, viewPhase } from './view'

export interface StackOptions extends ViewOptions {
  /** Whose time: `cpu`, the default, or `device`. */
  time?: 'cpu' | 'device' | undefined
}

/**
 * Collapsed stacks, as flame graph tools read them: a line for each row with time of its own, callers first and joined by `;`, then the
 * nanoseconds. The first frame is the phase.
 */
export function collapsedStacks(record: ProfileRecord, options: StackOptions = {}): string {
  const field = options.time === 'device' ? 'self_device_us' : 'self_cpu_us'
  const lines: string[] = []
  const visit = (node: ViewNode, above: readonly ViewNode[], stack: string): void => {
    const { row } = node
    const types = row.kind === 'op' ? `(${describeArguments(row.dtypes, row.shapes)})` : ''
    const frame = `${stack};${(shortName(node, above) + types).replaceAll(';', ',')}`
    const ns = Math.round(row[field] * 1000)
    if (ns > 0) lines.push(`${frame} ${ns}`)
    for (const child of node.children) visit(child, [...above, node], frame)
  }
  for (const phase of record.phases) {
    for (const node of viewPhase(phase, options)) visit(node, [], phase.name.replaceAll(';', ','))
  }
  return lines.map((line) => `${line}\n`).join('')
}
