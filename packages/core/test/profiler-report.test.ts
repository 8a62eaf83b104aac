// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { formatProfile } from '../src/profiler/report'
import { type ViewNode, type ViewOptions, viewPhase } from '../src/profiler/view'
import { type Given, layer, model, phaseOf, REST, recordOf } from './profiler-records'

/** A table as it should look, checked by eye and against the times in `model()`. */
function golden(name: string): string {
  return readFileSync(new URL(`fixtures/profiler/${name}`, import.meta.url), 'utf8')
}

const RECORD = recordOf(phaseOf('prefill', model()))

describe('formatProfile', () => {
  it('prints module > op with totals, shares and who called', () => {
    expect(formatProfile(RECORD)).toBe(golden('plain.txt'))
  })

  it('folds repeated layers into one row with their sums', () => {
    expect(formatProfile(RECORD, { fold: true })).toBe(golden('folded.txt'))
  })

  it('adds device columns and shares of the device where there is device time', () => {
    expect(formatProfile(recordOf(phaseOf('decode[0]', model(50))), { fold: true })).toBe(
      golden('device.txt'),
    )
  })

  it('cuts the trace, then leaves it out, then shortens names to fit a terminal', () => {
    expect(formatProfile(RECORD, { fold: true, width: 120 })).toBe(golden('folded-120.txt'))
    expect(formatProfile(RECORD, { fold: true, width: 80 })).toBe(golden('folded-80.txt'))
    for (const width of [64, 80, 100, 120, 200]) {
      for (const line of tableLines(formatProfile(RECORD, { width })))
        expect(line.length).toBeLessThanOrEqual(width)
    }
  })

  it('does not let one name move the numbers out of sight', () => {
    const name = `elementwise_kernel<${'TensorIteratorBase&,'.repeat(20)}int>`
    const kernel: Given = { kind: 'kernel', name, device: 'cuda:0', self_device_us: 7 }
    const text = formatProfile(recordOf(phaseOf('run', [{ name: 'aten::index', under: [kernel] }, ...REST])))
    const [header = '', ...lines] = tableLines(text)
    expect(header.indexOf('calls')).toBeLessThan(110)
    const line = lines.find((it) => it.includes('elementwise_kernel'))
    expect(line).toMatch(/^\|- elementwise_kernel<Tens.*….*&,int> +1 /)
    expect(line!.indexOf(' 1 ')).toBeLessThan(110)
  })

  it('prints every phase', () => {
    const text = formatProfile(recordOf(phaseOf('prefill', model()), phaseOf('decode[0]', model())))
    expect(text.split('\n').filter((line) => line === 'prefill' || line === 'decode[0]')).toEqual([
      'prefill',
      'decode[0]',
    ])
    expect(text.match(/^total /gm)).toHaveLength(2)
  })

  it('says the same with colour as without', () => {
    const colored = formatProfile(RECORD, { color: true, width: 120 })
    expect(colored).toContain('\u001b[1m')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: ANSI sequences begin with one
    const plain = colored.replace(/\u001b\[\d+m/g, '')
    expect(plain.replace(/ +$/gm, '')).toBe(formatProfile(RECORD, { width: 120 }))
  })

  it('stays readable with an empty phase', () => {
    const rest = REST.map((row) => ({ ...row, self_cpu_us: 0, under: [] }))
    expect(formatProfile(recordOf(phaseOf('run', rest)))).toMatch(/^\(idle\) +0\.0 +0\.0 +0\.0$/m)
  })
})

function tableLines(text: string): string[] {
  return text.split('\n').slice(2)
}

describe('viewPhase', () => {
  const phase = phaseOf('prefill', model(50))
  const flat = (nodes: readonly ViewNode[]): ViewNode[] =>
    nodes.flatMap((node) => [node, ...flat(node.children)])

  const options: ViewOptions[] = [{}]
  for (const fold of [false, true]) {
    for (const depth of [undefined, 1, 2, 3, 4, 5]) {
      for (const opDepth of [undefined, 1, 2]) options.push({ fold, depth, opDepth })
    }
  }
  it.each(options)('hides rows, never time: %o', (options) => {
    const shown = flat(viewPhase(phase, options))
    const sum = (field: 'self_cpu_us' | 'self_device_us') =>
      shown.reduce((total, { row }) => total + row[field], 0)
    expect(sum('self_cpu_us')).toBeCloseTo(phase.total_cpu_us, 9)
    expect(sum('self_device_us')).toBeCloseTo(phase.total_device_us, 9)
    expect(phase).toEqual(phaseOf('prefill', model(50)))
  })

  it('shows as many levels as asked for', () => {
    const depthOf = (nodes: readonly ViewNode[]): number =>
      nodes.length === 0 ? 0 : 1 + Math.max(...nodes.map((node) => depthOf(node.children)))
    expect([1, 2, 3, 6, 99].map((depth) => depthOf(viewPhase(phase, { depth })))).toEqual([1, 2, 3, 6, 7])
  })

  it('leaves out what ops call, but not their kernels', () => {
    const shown = flat(viewPhase(phase, { opDepth: 1 })).map(({ row }) => row)
    expect(shown.filter(({ name }) => name === 'aten::mm')).toEqual([])
    expect(shown.filter(({ name }) => name === 'aten::linear').map((row) => row.self_cpu_us)).toEqual([
      42, 42,
    ])
    expect(shown.filter(({ kind }) => kind === 'kernel')).toHaveLength(2)
  })

  it('counts op levels from the module', () => {
    const deep: Given = { name: 'a', under: [{ name: 'b', under: [{ name: 'c', self_cpu_us: 3 }] }] }
    const shown = (opDepth: number) =>
      flat(viewPhase(phaseOf('run', [{ kind: 'module', name: 'M', under: [deep] }]), { opDepth }))
    expect([1, 2, 3].map((depth) => shown(depth).map(({ row }) => row.name))).toEqual([
      ['M', 'a'],
      ['M', 'a', 'b'],
      ['M', 'a', 'b', 'c'],
    ])
  })

  it('folds only layers of one class and weight', () => {
    const other: Given = { ...layer(2, 5), name: 'OtherLayer' }
    const layers = [layer(0, 6), layer(1, 6), other]
    const top = viewPhase(phaseOf('run', [{ kind: 'module', name: 'M', path: 'model', under: layers }]), {
      fold: true,
    })
    expect(top[0]!.children.map(({ row, layers }) => [row.name, row.path, layers])).toEqual([
      ['LlamaDecoderLayer', 'model.layers.*', 2],
      ['OtherLayer', 'model.layers.2', 1],
    ])
    expect(top[0]!.children[0]!.children[0]!.row.path).toBe('model.layers.*.input_layernorm')
  })
})
