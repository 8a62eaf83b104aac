// SPDX-License-Identifier: Apache-2.0
// The page that shows a record: built into one script, which formatHtml() puts into the file beside the record.
import type { Line } from '../src/profiler/columns'
import { describeEnvironment, describeTimeline } from '../src/profiler/describe'
import type { ProfileRecord } from '../src/profiler/record'
import { viewPhase } from '../src/profiler/view'
import { stackedBars } from './bars'
import { duration, element } from './dom'
import { FlameGraph } from './flame'
import style from './style.css'
import { TreeTable } from './tree'

function show(record: ProfileRecord): void {
  document.head.append(element('style', {}, style))
  const main = element('main', {})
  const theme = element('button', { type: 'button', id: 'theme' }, 'Dark / light')
  theme.addEventListener('click', () => {
    const root = document.documentElement
    const dark = matchMedia('(prefers-color-scheme: dark)').matches
    const now = root.dataset.theme ?? (dark ? 'dark' : 'light')
    root.dataset.theme = now === 'dark' ? 'light' : 'dark'
  })
  document.body.append(
    element(
      'header',
      {},
      element('div', {}, element('h1', {}, 'Profile'), element('p', {}, describeEnvironment(record))),
      theme,
    ),
    main,
  )
  for (const warning of record.warnings)
    main.append(element('p', { class: 'warning', role: 'note' }, warning))
  main.append(section('Where the time went', stackedBars(record)))
  const holder = element('div', {})
  main.append(phaseTabs(record, holder), holder)
}

/** A tab for each phase; the chosen one fills `holder`. */
function phaseTabs(record: ProfileRecord, holder: HTMLElement): HTMLElement {
  const tabs = record.phases.map((phase, i) => {
    const time = phase.total_device_us > 0 ? phase.total_device_us : phase.total_cpu_us
    const steps = phase.steps > 1 ? ` ×${phase.steps}` : ''
    const label = element('span', {}, `${phase.name}${steps}`)
    const tab = element(
      'button',
      { type: 'button', role: 'tab', id: `tab-${i}`, 'aria-controls': 'phase' },
      label,
    )
    tab.append(element('small', {}, duration(time)))
    return tab
  })
  const choose = (chosen: number): void => {
    for (const [i, tab] of tabs.entries()) {
      tab.setAttribute('aria-selected', String(i === chosen))
      tab.tabIndex = i === chosen ? 0 : -1
    }
    holder.replaceChildren(phasePanel(record, chosen))
  }
  for (const [i, tab] of tabs.entries()) {
    tab.addEventListener('click', () => choose(i))
    tab.addEventListener('keydown', ({ key }) => {
      const by = key === 'ArrowRight' ? 1 : key === 'ArrowLeft' ? -1 : 0
      if (by === 0) return
      const next = (i + by + tabs.length) % tabs.length
      choose(next)
      tabs[next]!.focus()
    })
  }
  if (tabs.length > 0) choose(0)
  return element('div', { role: 'tablist', 'aria-label': 'phases' }, ...tabs)
}

function phasePanel(record: ProfileRecord, index: number): HTMLElement {
  const phase = record.phases[index]!
  const context = { phase, peaks: record.environment.peaks }
  const panel = element('div', { role: 'tabpanel', id: 'phase', 'aria-labelledby': `tab-${index}` })
  for (const timeline of phase.devices) panel.append(element('p', {}, describeTimeline(timeline)))
  const flame = section('Flame graph', new FlameGraph(viewPhase(phase), phase).element)
  const detail = element('p', { class: 'detail', 'aria-live': 'polite' }, 'Choose a row for its details.')
  const onShow = ({ node, above }: Line): void => {
    const path = [...above.map(({ row }) => row.name), node.row.name].join(' › ')
    detail.textContent = `${path}: ${node.row.calls} calls, ${duration(node.row.total_cpu_us)} on the host`
    if (node.row.total_device_us > 0)
      detail.textContent += `, ${duration(node.row.total_device_us)} on the device`
  }
  const place = element('div', {})
  const query = element('input', { type: 'search', id: 'query', placeholder: 'Find a module, op or kernel' })
  const fold = element('input', { type: 'checkbox', id: 'fold', checked: true })
  let table: TreeTable
  const build = (): void => {
    table = new TreeTable(viewPhase(phase, { fold: fold.checked }), context, onShow)
    table.refresh(query.value)
    place.replaceChildren(table.element)
  }
  const button = (text: string, open: boolean): HTMLElement => {
    const made = element('button', { type: 'button' }, text)
    made.addEventListener('click', () => table.setAll(open))
    return made
  }
  query.addEventListener('input', () => table.refresh(query.value))
  fold.addEventListener('change', build)
  build()
  const label = element('label', { for: 'query', class: 'hidden' }, 'Find')
  const folds = element('label', {}, fold, ' one row for repeated layers')
  const tools = element(
    'div',
    { class: 'tools' },
    label,
    query,
    folds,
    button('Open all', true),
    button('Close all', false),
  )
  panel.append(flame, section('Modules, ops and kernels', tools, place, detail))
  return panel
}

function section(title: string, ...content: HTMLElement[]): HTMLElement {
  return element('section', {}, element('h2', {}, title), ...content)
}

show(JSON.parse(document.getElementById('record')!.textContent))
