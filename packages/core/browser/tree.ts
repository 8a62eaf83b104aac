// SPDX-License-Identifier: Apache-2.0
// The table as a tree: a treegrid of the ARIA practices, whose rows open and close by click and by arrow keys.
import {
  type CellContext,
  COLUMNS,
  type Line,
  shareOf,
  shortName,
  type TableColumn,
} from '../src/profiler/columns'
import type { ViewNode } from '../src/profiler/view'
import { element, tint } from './dom'

/** Rows above this share are open at first. */
const OPEN_SHARE = 2

interface Row {
  line: Line
  element: HTMLTableRowElement
  children: Row[]
  parent: Row | undefined
  open: boolean
}

/** The table of one phase; `onShow` gets a row that was clicked. */
export class TreeTable {
  readonly element: HTMLElement
  private readonly rows: Row[] = []
  private readonly top: Row[]
  private readonly body = element('tbody')

  constructor(
    nodes: readonly ViewNode[],
    private readonly context: CellContext,
    private readonly onShow: (line: Line) => void,
  ) {
    const onDevice = context.phase.total_device_us > 0
    const names = [
      'name',
      'calls',
      'cpu',
      'self_cpu',
      'device',
      'self_device',
      'share',
      'p50',
      'p95',
    ] as const
    const more = ['gflops', 'gbps', 'roofline', 'verdict', 'launches', 'peak', 'trace'] as const
    const all = [...names, ...more].map((name): TableColumn => COLUMNS[name])
    const used = (column: TableColumn) => this.top.some((row) => this.uses(row, column))
    this.top = nodes.map((node) => this.make({ node, above: [] }, undefined))
    const columns = all.filter((column) => (onDevice || !column.device) && used(column))
    const head = columns.map(({ header, align }) => element('th', { scope: 'col', class: align }, header))
    for (const row of this.rows) this.fill(row, columns)
    this.element = element(
      'div',
      { class: 'scroll', tabindex: -1 },
      element(
        'table',
        { role: 'treegrid', 'aria-label': `rows of ${context.phase.name}` },
        element('thead', {}, element('tr', {}, ...head)),
        this.body,
      ),
    )
    this.body.addEventListener('click', (event) => this.click(event))
    this.body.addEventListener('keydown', (event) => this.key(event))
    this.refresh('')
    const first = this.rows[0]
    if (first) first.element.tabIndex = 0
  }

  /** Opens or closes everything. */
  setAll(open: boolean): void {
    for (const row of this.rows) row.open = open
    this.refresh('')
  }

  /** Shows the rows whose text has `query`, with what is above them; all if it is empty. */
  refresh(query: string): void {
    const wanted = query.trim().toLowerCase()
    const found = new Set<Row>()
    for (const row of this.rows) {
      if (wanted === '' || !row.element.textContent.toLowerCase().includes(wanted)) continue
      for (let each: Row | undefined = row; each; each = each.parent) found.add(each)
    }
    const shown: HTMLElement[] = []
    const visit = (row: Row): void => {
      if (wanted !== '' && !found.has(row)) return
      shown.push(row.element)
      const open = row.open || wanted !== ''
      if (row.children.length > 0) row.element.setAttribute('aria-expanded', String(open))
      if (open) for (const child of row.children) visit(child)
    }
    for (const row of this.top) visit(row)
    this.body.replaceChildren(...shown)
  }

  private uses(row: Row, column: TableColumn): boolean {
    const value = column.value(row.line, this.context)
    return (
      (value !== undefined && value !== '' && value !== 0) ||
      row.children.some((child) => this.uses(child, column))
    )
  }

  private make(line: Line, parent: Row | undefined): Row {
    const { node, above } = line
    const share = shareOf(node.row, this.context.phase)
    const open = node.children.length > 0 && node.row.kind !== 'op' && share >= OPEN_SHARE
    const row: Row = {
      ...{ line, parent, open, children: [] },
      element: element('tr', {
        ...{ role: 'row', 'aria-level': above.length + 1, tabindex: -1, class: node.row.kind },
        'data-row': this.rows.length,
      }),
    }
    this.rows.push(row)
    row.children = node.children.map((child) => this.make({ node: child, above: [...above, node] }, row))
    return row
  }

  private fill(row: Row, columns: readonly TableColumn[]): void {
    const { node, above } = row.line
    row.element.append(
      ...columns.map((column) => {
        if (column.name === 'name') {
          const twisty = element('span', {
            class: node.children.length > 0 ? 'twisty' : 'leaf',
            'aria-hidden': true,
          })
          const name = element('span', { class: `name ${tint(node.row.name)}` }, shortName(node, above))
          const cell = element(
            'td',
            { role: 'gridcell', class: 'left first', title: node.row.name },
            twisty,
            name,
          )
          cell.style.setProperty('--level', String(above.length))
          return cell
        }
        const value = column.value(row.line, this.context)
        const text = typeof value === 'number' ? column.format(value) : (value ?? '')
        const cell = element('td', { role: 'gridcell', class: `${column.align} ${column.name}` }, text)
        if (column.name === 'share' && typeof value === 'number')
          cell.style.setProperty('--part', `${value}%`)
        return cell
      }),
    )
  }

  private rowOf(target: EventTarget | null): Row | undefined {
    const found = target instanceof Element ? target.closest('tr') : null
    return found ? this.rows[Number(found.dataset.row)] : undefined
  }

  private click(event: MouseEvent): void {
    const row = this.rowOf(event.target)
    if (!row) return
    this.focus(row)
    if (row.children.length > 0) this.toggle(row, !row.open)
    this.onShow(row.line)
  }

  private toggle(row: Row, open: boolean): void {
    row.open = open
    this.refresh('')
    this.focus(row)
  }

  private focus(row: Row): void {
    for (const each of this.rows) each.element.tabIndex = -1
    row.element.tabIndex = 0
    row.element.focus({ preventScroll: false })
  }

  private key(event: KeyboardEvent): void {
    const row = this.rowOf(event.target)
    if (!row) return
    const shown = [...this.body.children]
    const at = shown.indexOf(row.element)
    const step = (by: number) => this.rowOf(shown[at + by] ?? null)
    const next =
      event.key === 'ArrowDown'
        ? step(1)
        : event.key === 'ArrowUp'
          ? step(-1)
          : event.key === 'Home'
            ? this.rowOf(shown[0] ?? null)
            : event.key === 'End'
              ? this.rowOf(shown.at(-1) ?? null)
              : undefined
    if (next) this.focus(next)
    else if (event.key === 'ArrowRight' && row.children.length > 0) this.toggle(row, true)
    else if (event.key === 'ArrowLeft' && row.open) this.toggle(row, false)
    else if (event.key === 'ArrowLeft' && row.parent) this.focus(row.parent)
    else if (event.key === 'Enter' || event.key === ' ') this.onShow(row.line)
    else if (!/^(Arrow|Home|End)/.test(event.key)) return
    event.preventDefault()
  }
}
