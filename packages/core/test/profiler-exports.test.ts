// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { describe, expect, it } from 'vitest'
import { type ChromeEvent, chromeTrace } from '../src/profiler/chrome'
import { classicProfile, formatClassic } from '../src/profiler/classic'
import { COLUMN_NAMES } from '../src/profiler/columns'
import { formatCsv } from '../src/profiler/csv'
import { GROUPS } from '../src/profiler/group'
import { shortKernelName } from '../src/profiler/kernel-name'
import { layoutPhase, type TableOptions } from '../src/profiler/layout'
import { formatMarkdown } from '../src/profiler/markdown'
import { readProfile } from '../src/profiler/read'
import type { ProfileRecord } from '../src/profiler/record'
import { formatProfile } from '../src/profiler/report'
import { collapsedStacks } from '../src/profiler/stacks'
import { traceOf } from '../src/profiler/trace'
import { event, uniform } from './profiler-events'
import { type Given, model, phaseOf, recordOf } from './profiler-records'

const RECORD = recordOf(phaseOf('prefill', model()), phaseOf('decode[0]', model(50)))

/** Compares with a file that was checked by eye. `UPDATE_GOLDEN=1` writes it anew. */
function expectGolden(text: string, name: string): void {
  const file = new URL(`fixtures/profiler/${name}`, import.meta.url)
  if (process.env.UPDATE_GOLDEN === '1') writeFileSync(file, text)
  expect(existsSync(file), name).toBe(true)
  expect(text).toBe(readFileSync(file, 'utf8'))
}

describe('forms of a record', () => {
  it.each([80, 120, 200])('fit %i columns as text and Markdown', (width) => {
    const text = formatProfile(RECORD, { fold: true, width })
    for (const line of text.split('\n').slice(1)) expect(line.length).toBeLessThanOrEqual(width)
    expectGolden(text, `both-${width}.txt`)
    expectGolden(formatMarkdown(RECORD, { fold: true, width }), `both-${width}.md`)
  })

  it('are every row with every column as CSV', () => {
    const csv = formatCsv(RECORD)
    // Git stores text files with plain line ends.
    expectGolden(csv.replaceAll('\r\n', '\n'), 'both.csv')
    expect(csv.split('\n').every((line) => line === '' || line.endsWith('\r'))).toBe(true)
    const lines = csv.trimEnd().split('\r\n')
    expect(lines).toHaveLength(1 + RECORD.phases.reduce((sum, { rows }) => sum + rows.length, 0))
    expect(lines[0]).toBe(`phase,id,parent,${COLUMN_NAMES.join(',')}`)
  })

  it('have the classic tables under their own column names', () => {
    const model = formatClassic(RECORD, 'model').split('\n')
    expect(model[1]).toMatch(/^name +cpu_time_us +cuda_time_us +pct_cuda_time +trace$/)
    expect(model.find((line) => line.startsWith('|----- aten::mm'))).toBeDefined()
    const summary = formatClassic(RECORD, 'summary').split('\n')
    expect(summary[1]).toMatch(/^name +cuda_time_us +pct_cuda_time +invocations$/)
    expect(summary.find((line) => line.startsWith('gemm_bf16'))).toMatch(/^gemm_bf16 +100.00 +100.00 +2$/)
  })

  it('are the classic JSON: phases with both tables, entries with children', () => {
    const classic = classicProfile(RECORD)
    expect(Object.keys(classic)).toEqual(['context', 'prefill', 'decode_1'])
    const decode = classic.decode_1
    if (!decode || !('model_stats' in decode)) throw new Error('no tables')
    expect(decode.summary_stats).toEqual([
      { entry: { name: 'gemm_bf16', cuda_time_us: 100, pct_cuda_time: 100, invocations: 2 }, children: [] },
    ])
    const [top] = decode.model_stats
    expect(Object.keys(top!.entry)).toEqual(['name', 'cpu_time_us', 'cuda_time_us', 'pct_cuda_time', 'trace'])
    expect(top!.children[0]!.entry.name).toBe('LlamaModel(model)')
  })

  it('are stacks whose times add up to the phases', () => {
    const stacks = collapsedStacks(RECORD).trimEnd().split('\n')
    const sum = stacks.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
    expect(sum).toBe(Math.round(RECORD.phases.reduce((sum, phase) => sum + phase.total_cpu_us * 1000, 0)))
    expect(stacks[0]).toBe('prefill;LlamaForCausalLM 9000')
    expect(collapsedStacks(RECORD, { time: 'device' })).toMatch(/;gemm_bf16 50000\n/)
  })

  it('refuse a column that there is not, and name those that there are', () => {
    const columns = ['name', 'speed'] as unknown[]
    const options = { columns } as TableOptions
    expect(() => formatProfile(RECORD, options)).toThrow(
      /'columns': expected one of name, .*received 'speed'/,
    )
  })
})

describe('profile.schema.json', () => {
  const schema = JSON.parse(readFileSync(new URL('../profile.schema.json', import.meta.url), 'utf8'))
  const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(schema)

  it('describes a record, with and without its trace', () => {
    const record: ProfileRecord = { ...RECORD, trace: traceOf([event('op', 'aten::mm', 0, 5)]) }
    for (const value of [RECORD, record]) expect(validate(JSON.parse(JSON.stringify(value)))).toBe(true)
  })

  it('refuses what is none', () => {
    expect(validate({ ...RECORD, version: 1 })).toBe(false)
    const [first] = RECORD.phases
    const { calls: _, ...row } = first!.rows[0]!
    expect(validate({ ...RECORD, phases: [{ ...first!, rows: [row] }] })).toBe(false)
  })
})

describe('readProfile', () => {
  it('gives back what was written', () => {
    expect(readProfile(JSON.stringify(RECORD))).toEqual(RECORD)
  })

  it.each([
    ['{', /no JSON/],
    ['[]', /no version/],
    ['{"version":1,"phases":[]}', /of version 1, expected 2/],
    ['{"version":2,"phases":[{}]}', /no whole profile/],
    [JSON.stringify({ ...RECORD, phases: [{ ...RECORD.phases[0], rows: [{ id: 5 }] }] }), /no whole profile/],
  ])('refuses %s', (json, message) => {
    expect(() => readProfile(json, 'a.json')).toThrow(message)
  })
})

describe('chromeTrace', () => {
  const host = { thread: 7 }
  const events = [
    event('scope', 'phase: prefill', 0, 9000, host),
    event('scope', 'module: RMSNorm(model.norm, weight=bfloat16[8])', 1000, 8000, host),
    event('op', 'vllm_ops::rms_norm', 2000, 5000, { ...host, dtypes: ['float'], shapes: [[4]] }),
    event('runtime', 'cudaLaunchKernel', 3000, 4000, { ...host, correlation: 11 }),
    event('kernel', 'norm', 6000, 9500, { device: 'cuda:0', stream: 3, correlation: 11 }),
    event('memory', '[memory]', 2500, 2500, host),
  ]
  const trace = chromeTrace({ ...RECORD, trace: traceOf(events) })

  it('has what Chrome, Perfetto and speedscope ask of a file', () => {
    for (const entry of trace.traceEvents) checkEntry(entry)
    const complete = trace.traceEvents.filter(({ ph }) => ph === 'X')
    expect(complete.map(({ name, cat, ts, dur }) => [name, cat, ts, dur])).toEqual([
      ['prefill', 'phase', 0, 9],
      ['RMSNorm', 'module', 1, 7],
      ['vllm_ops::rms_norm', 'op', 2, 3],
      ['cudaLaunchKernel', 'other', 3, 1],
      ['norm', 'kernel', 6, 3.5],
    ])
    expectNested(complete)
  })

  it('puts devices beside the host, and joins launches with kernels', () => {
    const kernel = trace.traceEvents.find(({ name }) => name === 'norm')!
    const op = trace.traceEvents.find(({ name }) => name === 'vllm_ops::rms_norm')!
    expect(kernel.pid).not.toBe(op.pid)
    expect([op.tid, kernel.tid]).toEqual([7, 3])
    expect(op.args).toEqual({ arguments: 'float32[4]' })
    expect(trace.traceEvents.filter(({ cat }) => cat === 'launch').map(({ ph, id }) => [ph, id])).toEqual([
      ['s', 11],
      ['f', 11],
    ])
  })

  it('needs the events', () => {
    expect(() => chromeTrace(RECORD)).toThrow(expect.objectContaining({ code: 'E_PROFILER' }))
  })
})

function checkEntry(entry: ChromeEvent): void {
  const { ph, ts, dur, pid, tid, id } = JSON.parse(JSON.stringify(entry))
  expect(['X', 'M', 's', 'f']).toContain(ph)
  for (const number of [ts, pid, tid]) expect(Number.isFinite(number)).toBe(true)
  expect(ts).toBeGreaterThanOrEqual(0)
  if (ph === 'X') expect(dur).toBeGreaterThanOrEqual(0)
  if (ph === 's' || ph === 'f') expect(Number.isInteger(id)).toBe(true)
}

/** Events of one track lie inside each other or apart. */
function expectNested(events: readonly ChromeEvent[]): void {
  for (const a of events) {
    for (const b of events) {
      if (a === b || a.pid !== b.pid || a.tid !== b.tid || b.ts < a.ts) continue
      const end = a.ts + a.dur!
      expect(b.ts >= end || b.ts + b.dur! <= end, `${a.name}, ${b.name}`).toBe(true)
    }
  }
}

describe('filters, groups and orders', () => {
  const random = uniform(5)
  const options: TableOptions[] = []
  for (const group of [undefined, ...GROUPS]) {
    for (let i = 0; i < 12; i++) {
      const match = [undefined, /norm/i, /layers\.1/, /nothing at all/, /bfloat16\[576\]/g][
        Math.floor(random() * 5)
      ]
      const sort = COLUMN_NAMES[Math.floor(random() * COLUMN_NAMES.length)]
      const minShare = [undefined, 0, 4, 30, 100][Math.floor(random() * 5)]
      const depth = [undefined, 1, 2, 4][Math.floor(random() * 4)]
      options.push({
        group,
        match,
        sort,
        minShare,
        depth,
        fold: random() < 0.5,
        opDepth: random() < 0.5 ? 1 : undefined,
      })
    }
  }

  it.each(options)('never change totals: %o', (options) => {
    for (const phase of RECORD.phases) {
      const { lines } = layoutPhase(phase, {}, options)
      const sum = (field: 'self_cpu_us' | 'self_device_us') =>
        lines.reduce((total, { node }) => total + node.row[field], 0)
      expect(sum('self_cpu_us')).toBeCloseTo(phase.total_cpu_us, 9)
      expect(sum('self_device_us')).toBeCloseTo(phase.total_device_us, 9)
    }
  })

  it('show what matches with what is above it, and count the rest', () => {
    const { lines } = layoutPhase(RECORD.phases[0]!, {}, { match: /rms_norm/, fold: true })
    expect(lines.map(({ node }) => node.row.name)).toEqual([
      ...['LlamaForCausalLM', 'LlamaModel', 'LlamaDecoderLayer', 'RMSNorm', 'vllm_ops::rms_norm'],
      ...['(1 row not shown)', '(outside modules)', '(1 row not shown)', '(idle)', '(profiler)'],
    ])
  })

  it('put more first and the accounting last', () => {
    const { lines } = layoutPhase(RECORD.phases[0]!, {}, { group: 'name', sort: 'self_cpu' })
    const names = lines.map(({ node }) => node.row.name)
    expect(names.slice(0, 2)).toEqual(['aten::mm', 'vllm_ops::rms_norm'])
    expect(names.slice(-3)).toEqual(['(outside modules)', '(profiler)', '(idle)'])
  })

  it('count what calls itself once', () => {
    const inner: Given = { name: 'f', self_cpu_us: 3 }
    const phase = phaseOf('run', [{ name: 'f', self_cpu_us: 4, under: [inner] }])
    const { lines } = layoutPhase(phase, {}, { group: 'name' })
    expect(
      lines.map(({ node: { row } }) => [row.name, row.calls, row.self_cpu_us, row.total_cpu_us]),
    ).toEqual([['f', 2, 7, 7]])
  })

  it('name the quickest and the slowest of folded layers', () => {
    const { lines } = layoutPhase(RECORD.phases[0]!, {}, { fold: true })
    const folded = lines.find(({ node }) => node.layers > 1)!
    expect(folded.node.spread).toEqual({
      fastest: { path: 'layers.0', us: 49 },
      slowest: { path: 'layers.1', us: 51 },
    })
  })
})

describe('shortKernelName', () => {
  it.each([
    [
      'void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>, std::array<char*, 3ul> >(int, float)',
      'vectorized_elementwise_kernel<4,CUDAFunctor_add<float>,array<char*,3ul>>',
    ],
    ['void (anonymous namespace)::rms_norm<c10::BFloat16>(c10::BFloat16*, long)', 'rms_norm<BFloat16>'],
    ['void f<(int)3, true>(float*) [clone .part.0]', 'f<3,true>'],
    ['Memcpy HtoD (Pageable -> Device)', 'Memcpy HtoD (Pageable -> Device)'],
    ['sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n', 'sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n'],
  ])('%s', (name, short) => {
    expect(shortKernelName(name)).toBe(short)
  })
})
