// SPDX-License-Identifier: Apache-2.0
import type { ProfilePhase, ProfileRecord, ProfileRow } from '../src/profiler/record'

/** Types of arguments that are all bfloat16. */
export const BF16 = (...shapes: number[][]) => ({ dtypes: shapes.map(() => 'bfloat16'), shapes })

/** A row with those below it. */
export type Given = Partial<ProfileRow> & { under?: Given[] }

/** A phase from nested rows whose self times are given; totals follow. */
export function phaseOf(name: string, given: Given[]): ProfilePhase {
  const rows: ProfileRow[] = []
  const add = ({ under = [], ...facts }: Given, parent: number | null): ProfileRow => {
    const row: ProfileRow = {
      ...{
        id: rows.length,
        parent,
        kind: 'op',
        name: '',
        path: '',
        weight: null,
        device: 'cpu',
        shapes: [],
        dtypes: [],
      },
      ...{ calls: 1, self_cpu_us: 0, total_cpu_us: 0, self_device_us: 0, total_device_us: 0 },
      ...{ mean_us: 0, p50_us: 0, p95_us: 0, min_us: 0, max_us: 0, histogram: [], launches: 0 },
      ...{ flops: 0, bytes: 0, allocated_bytes: 0, peak_bytes: 0 },
      ...facts,
    }
    rows.push(row)
    const below = under.map((child) => add(child, row.id))
    row.total_cpu_us = below.reduce((sum, child) => sum + child.total_cpu_us, row.self_cpu_us)
    row.total_device_us = below.reduce((sum, child) => sum + child.total_device_us, row.self_device_us)
    return row
  }
  const top = given.map((row) => add(row, null))
  return {
    name,
    steps: 1,
    devices: [],
    total_cpu_us: top.reduce((sum, row) => sum + row.total_cpu_us, 0),
    total_device_us: top.reduce((sum, row) => sum + row.total_device_us, 0),
    rows,
  }
}

/** A decoder layer whose norm takes `self` microseconds, with a kernel of `gemm`. */
export function layer(i: number, self: number, gemm = 0): Given {
  const path = `model.layers.${i}`
  const kernel: Given = { kind: 'kernel', name: 'gemm_bf16', device: 'cuda:0', path, self_device_us: gemm }
  return {
    ...{ kind: 'module', name: 'LlamaDecoderLayer', path, self_cpu_us: 1 },
    under: [
      {
        ...{ kind: 'module', name: 'RMSNorm', path: `${path}.input_layernorm`, weight: 'bfloat16[576]' },
        under: [{ name: 'vllm_ops::rms_norm', self_cpu_us: self, ...BF16([4, 576], [4, 576], [576]) }],
      },
      {
        ...{
          kind: 'module',
          name: 'QKVParallelLinear',
          path: `${path}.self_attn.qkv_proj`,
          weight: 'bfloat16[960, 576]',
        },
        under: [
          {
            ...{ name: 'aten::linear', self_cpu_us: 2, ...BF16([4, 576], [960, 576]) },
            under: [
              {
                name: 'aten::mm',
                self_cpu_us: 40,
                ...BF16([4, 576], [576, 960]),
                under: gemm ? [kernel] : [],
              },
            ],
          },
        ],
      },
    ],
  }
}

/** The rows that account for the rest. */
export const REST: Given[] = [
  {
    kind: 'other',
    name: '(outside modules)',
    calls: 0,
    self_cpu_us: 12.25,
    under: [{ name: 'aten::argmax', self_cpu_us: 3 }],
  },
  { kind: 'other', name: '(idle)', calls: 0 },
  { kind: 'other', name: '(profiler)', calls: 0, self_cpu_us: 4 },
]

/** A model of two layers. */
export function model(gemm = 0): Given[] {
  const layers = [layer(0, 6, gemm), layer(1, 8, gemm)]
  const inner: Given = { kind: 'module', name: 'LlamaModel', path: 'model', self_cpu_us: 5, under: layers }
  return [{ kind: 'module', name: 'LlamaForCausalLM', self_cpu_us: 9, under: [inner] }, ...REST]
}

/** A record of these phases. */
export function recordOf(...phases: ProfilePhase[]): ProfileRecord {
  const machine = {
    torch: '2.13.0',
    node: 'v20.20.2',
    platform: 'linux-x64',
    cpu: 'AMD EPYC',
    cores: 4,
    threads: 2,
    process: 1,
    rank: 0,
    peaks: {},
  }
  return { version: 2, environment: machine, phases, warnings: [] }
}
