// SPDX-License-Identifier: Apache-2.0
// Devices from synthetic events: what Kineto gives on a GPU host, with times that are known.
import { describe, expect, it } from 'vitest'
import { capturedGraphs } from '../src/profiler/graphs'
import { layoutPhase } from '../src/profiler/layout'
import type { RawEvent } from '../src/profiler/raw-event'
import type { ProfilePhase, ProfileRow } from '../src/profiler/record'
import { buildPhases } from '../src/profiler/tree'
import { event } from './profiler-events'

const FREE = { inside: 0, outside: 0 }
const MODEL = 'module: LlamaModel(model)'

function build(events: RawEvent[], graphs?: Parameters<typeof buildPhases>[0]['graphs']): ProfilePhase {
  const all = [event('scope', 'root', 0, 1_000_000), ...events]
  const cost = { scope: FREE, op: FREE }
  return buildPhases({ events: all, root: { label: 'root', name: 'run' }, idle: new Map(), cost, graphs })[0]!
}

function row({ rows }: ProfilePhase, name: string): ProfileRow {
  const found = rows.filter((row) => row.name === name)
  expect(found, name).toHaveLength(1)
  return found[0]!
}

const launch = (start: number, correlation: number, name = 'cudaLaunchKernel') =>
  event('runtime', name, start, start + 1000, { correlation })
const kernel = (name: string, start: number, end: number, correlation: number, stream = 7) =>
  event('kernel', name, start, end, { device: 'cuda:0', thread: 0, correlation, stream })

describe('kernels', () => {
  it('belong to the op whose call of the runtime launched them, whatever numbers ops have', () => {
    const phase = build([
      event('op', 'aten::mm', 10_000, 20_000, { correlation: 5 }),
      launch(12_000, 6),
      event('op', 'aten::add', 30_000, 40_000, { correlation: 6 }),
      launch(32_000, 5),
      kernel('gemm', 50_000, 80_000, 6),
      kernel('add', 80_000, 85_000, 5),
    ])
    expect(row(phase, 'gemm').parent).toBe(row(phase, 'aten::mm').id)
    expect(row(phase, 'add').parent).toBe(row(phase, 'aten::add').id)
    const launches = phase.rows.filter(({ name }) => name === 'cudaLaunchKernel')
    expect(launches.map(({ kind, calls, total_cpu_us }) => [kind, calls, total_cpu_us])).toEqual([
      ['other', 1, 1],
      ['other', 1, 1],
    ])
    expect(row(phase, 'aten::mm')).toMatchObject({ launches: 1, total_device_us: 30 })
    expect(row(phase, 'gemm')).toMatchObject({ mean_us: 30, p50_us: 30, min_us: 30, max_us: 30 })
  })
})

describe('replays of graphs', () => {
  const capture = [
    event('scope', 'range: capture of graph 3', 1000, 100_000),
    event('scope', MODEL, 2000, 90_000),
    event('op', 'vllm_ops::rms_norm', 3000, 20_000, { dtypes: ['c10::BFloat16'], shapes: [[4]] }),
    launch(5000, 1, 'cuLaunchKernelEx'),
    event('op', 'aten::mm', 30_000, 60_000),
    launch(32_000, 2),
    launch(40_000, 3, 'cudaMemsetAsync'),
    event('runtime', 'cudaStreamIsCapturing', 45_000, 46_000, { correlation: 4 }),
  ]
  const replay = [
    event('scope', 'range: graph 3', 200_000, 220_000),
    launch(201_000, 50, 'cudaGraphLaunch'),
    kernel('norm', 230_000, 240_000, 50),
    kernel('gemm', 240_000, 290_000, 50),
    kernel('Memset (Device)', 290_000, 291_000, 50),
  ]

  it('are booked under the ops and modules that recorded them', () => {
    const phase = build([...capture, ...replay])
    const above = (name: string) => {
      const names: string[] = []
      for (let at = row(phase, name).parent; at !== null; at = phase.rows[at]!.parent)
        names.push(phase.rows[at]!.name)
      return names
    }
    expect(above('norm')).toEqual(['vllm_ops::rms_norm', 'LlamaModel'])
    expect(above('gemm')).toEqual(['aten::mm', 'LlamaModel'])
    expect(above('Memset (Device)')).toEqual(['aten::mm', 'LlamaModel'])
    expect(row(phase, 'norm').path).toBe('model')
    expect(row(phase, 'graph 3').total_device_us).toBe(0)
    expect(phase.total_device_us).toBe(61)
  })

  it('are known where the capture was before the profile', () => {
    const phase = build(replay, capturedGraphs(capture))
    expect(row(phase, 'gemm').parent).toBe(row(phase, 'aten::mm').id)
    expect(row(phase, 'aten::mm')).toMatchObject({ calls: 0, total_cpu_us: 0, total_device_us: 51 })
  })

  it('stay under the replay where their number is another than what was captured', () => {
    const phase = build([...capture, ...replay.slice(0, -1)])
    expect(row(phase, 'gemm').parent).toBe(row(phase, 'graph 3').id)
  })
})

describe('the timeline of a device', () => {
  it('has what was put into it: work, gaps, the host behind, streams that overlap', () => {
    const { devices } = build([
      event('op', 'aten::mm', 0, 400_000),
      launch(10_000, 1),
      launch(20_000, 2),
      launch(200_000, 3),
      kernel('a', 20_000, 60_000, 1),
      // The device is busy when this one is launched; it runs beside the first for 10 µs.
      kernel('b', 50_000, 100_000, 2, 8),
      // Launched from 200 to 201 µs: of the gap of 105 µs the host was behind for 101.
      kernel('c', 205_000, 215_000, 3),
    ])
    expect(devices).toEqual([
      {
        ...{ device: 'cuda:0', span_us: 195, busy_us: 90, idle_us: 105, gaps: 1, longest_gap_us: 105 },
        ...{ host_behind_us: 101, overlap_us: 10, launches: 3, streams: 2, launch_delay_us: 10 },
      },
    ])
  })
})

describe('a synthetic program', () => {
  const peaks = {
    cpu: { bytes_per_s: 10e9, flops_per_s: { float32: 100e9 }, call_us: 1 },
    'cuda:0': { bytes_per_s: 1e12, flops_per_s: { bfloat16: 400e12 }, call_us: 5 },
  }
  /** One cell of the row of this name. */
  function cell(phase: ProfilePhase, name: string, column: 'gflops' | 'gbps' | 'roofline' | 'verdict') {
    const { columns, lines } = layoutPhase(phase, peaks, { columns: [column] })
    return columns[0]!.value(lines.find(({ node }) => node.row.name === name)!, { phase, peaks })
  }
  const floats = (...shapes: number[][]) => ({ dtypes: shapes.map(() => 'float'), shapes })

  it('of known FLOPs and bytes is found to the digit, with what bounds it', () => {
    const phase = build(
      [
        // 2 * 1000^3 FLOPs in 40 ms: 50 GFLOP/s; 12 MB: 0.3 GB/s.
        event('op', 'aten::mm', 0, 40_000_000, floats([1000, 1000], [1000, 1000])),
        // 8 FLOPs in 2 µs, which calling alone takes half of.
        event('op', 'aten::bmm', 50_000_000, 50_002_000, floats([1, 1, 4], [1, 4, 1])),
        // 2 * 1000^2 FLOPs, and 4 MB with 8 kB beside it, in 1 ms.
        event('op', 'aten::mv', 60_000_000, 61_000_000, floats([1000, 1000], [1000])),
      ].map((each) => ({ ...each, start: each.start / 100, end: each.end / 100 })),
    )
    // Times were divided by 100 to lie within the phase: rates are 100 times as high.
    expect(cell(phase, 'aten::mm', 'gflops')).toBeCloseTo(5000, 6)
    expect(cell(phase, 'aten::mm', 'gbps')).toBeCloseTo(30, 6)
    expect(cell(phase, 'aten::mm', 'verdict')).toBe('compute')
    expect(cell(phase, 'aten::bmm', 'verdict')).toBe('launch')
    expect(cell(phase, 'aten::mv', 'verdict')).toBe('memory')
    expect(cell(phase, 'aten::mv', 'gbps')).toBeCloseTo(400.8, 6)
    expect(cell(phase, 'aten::mv', 'roofline')).toBeCloseTo(4008, 6)
  })

  it('counts the work of an op once, not again in what the op calls', () => {
    const types = floats([4, 8], [16, 8])
    const phase = build([
      event('op', 'aten::linear', 0, 1000, types),
      event('op', 'aten::mm', 200, 800, floats([4, 8], [8, 16])),
    ])
    expect(row(phase, 'aten::linear').flops).toBe(2 * 4 * 8 * 16)
    expect(row(phase, 'aten::mm').flops).toBe(0)
  })

  it('reads the work of our ops from their cards, sizes in scalars too', () => {
    const types = {
      dtypes: ['c10::BFloat16', 'c10::BFloat16'],
      shapes: [
        [4, 128],
        [4, 256],
      ],
    }
    const phase = build([event('op', 'vllm_ops::silu_and_mul', 0, 1000, types)])
    expect(row(phase, 'vllm_ops::silu_and_mul').bytes).toBe(2 * (4 * 128 + 4 * 256))
  })

  it('counts what is allocated inside a row, and the most that was held', () => {
    const memory = (at: number, bytes: number) => event('memory', '[memory]', at, at, { bytes })
    const phase = build([
      event('scope', MODEL, 1000, 9000),
      event('op', 'aten::a', 2000, 5000),
      memory(2500, 1000),
      memory(3000, 500),
      memory(4000, -1000),
      event('op', 'aten::b', 6000, 8000),
      memory(7000, 200),
    ])
    expect(row(phase, 'aten::a')).toMatchObject({ allocated_bytes: 1500, peak_bytes: 1500 })
    expect(row(phase, 'aten::b')).toMatchObject({ allocated_bytes: 200, peak_bytes: 200 })
    expect(row(phase, 'LlamaModel')).toMatchObject({ allocated_bytes: 1700, peak_bytes: 1500 })
  })
})
