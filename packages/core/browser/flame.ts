// SPDX-License-Identifier: Apache-2.0
// The flame graph of a phase: a row of boxes a level, as wide as their time; a click makes one as wide as the page.
import { shortName } from '../src/profiler/columns'
import { describeArguments } from '../src/profiler/labels'
import type { ProfilePhase, ProfileRow } from '../src/profiler/record'
import type { ViewNode } from '../src/profiler/view'
import { duration, element, tint } from './dom'

/** Boxes narrower than this part of the width are left out. */
const LEAST = 0.001

interface Box {
  node: ViewNode | undefined
  label: string
  time: number
  above: Box[]
  children: Box[]
}

/** The flame graph of one phase. */
export class FlameGraph {
  readonly element = element('div', { class: 'flame', role: 'group', 'aria-label': 'flame graph' })
  private readonly root: Box
  private readonly onDevice: boolean

  constructor(nodes: readonly ViewNode[], phase: ProfilePhase) {
    this.onDevice = phase.total_device_us > 0
    const time = this.onDevice ? phase.total_device_us : phase.total_cpu_us
    this.root = { node: undefined, label: phase.name, time, above: [], children: [] }
    this.root.children = nodes.map((node) => this.box(node, [], [this.root]))
    this.zoom(this.root)
  }

  private timeOf({ total_device_us, total_cpu_us }: ProfileRow): number {
    return this.onDevice ? total_device_us : total_cpu_us
  }

  private box(node: ViewNode, above: readonly ViewNode[], path: Box[]): Box {
    const box: Box = {
      node,
      label: shortName(node, above),
      time: this.timeOf(node.row),
      above: path,
      children: [],
    }
    box.children = node.children.map((child) => this.box(child, [...above, node], [...path, box]))
    return box
  }

  /** Shows one box with those above it over the whole width. */
  private zoom(focus: Box): void {
    this.element.replaceChildren()
    const levels: HTMLElement[] = []
    const put = (box: Box, level: number, left: number, width: number): void => {
      levels[level] ??= this.element.appendChild(element('div', { class: 'level' }))
      levels[level].append(this.button(box, left, width, focus))
      let at = left
      const scale = box.time > 0 ? width / box.time : 0
      for (const child of box.children) {
        const part = child.time * scale
        if (part >= LEAST) put(child, level + 1, at, part)
        at += part
      }
    }
    for (const [level, box] of focus.above.entries()) {
      levels[level] = this.element.appendChild(element('div', { class: 'level' }))
      levels[level].append(this.button(box, 0, 1, focus))
    }
    if (focus.time > 0) put(focus, focus.above.length, 0, 1)
  }

  private button(box: Box, left: number, width: number, focus: Box): HTMLButtonElement {
    const { node } = box
    const share = this.root.time > 0 ? (100 * box.time) / this.root.time : 0
    const types = node?.row.kind === 'op' ? `(${describeArguments(node.row.dtypes, node.row.shapes)})` : ''
    const title = `${box.label}${types}: ${duration(box.time)}, ${share.toFixed(1)} %`
    const colour = node ? tint(node.row.name) : 'tint-none'
    const button = element('button', { type: 'button', class: `box ${colour}`, title }, box.label)
    if (box === focus) button.setAttribute('aria-current', 'true')
    if (focus.above.includes(box)) button.classList.add('outer')
    button.style.left = `${100 * left}%`
    button.style.width = `${100 * width}%`
    button.addEventListener('click', () => {
      this.zoom(box)
      this.element.querySelector<HTMLElement>('[aria-current]')?.focus()
    })
    return button
  }
}
