// SPDX-License-Identifier: Apache-2.0
import { type FloatDType, floatDTypes, manualSeed, use } from '@vllm-ops/core'
import cuda from '@vllm-ops/cuda'
import {
  type Benchmark,
  chosenParts,
  countOption,
  countsOption,
  listOption,
  type OptionValues,
  UsageError,
} from '../benchmark'
import { number } from '../table'
import { measureAttention } from './attention'
import { measureCalls } from './call'
import { baseline } from './device-time'
import { measureLinear } from './linear'
import { measureOps } from './ops'

const PARTS = ['ops', 'attention', 'linear', 'call'] as const

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const chosen = chosenParts(options, PARTS)
  const dtypes = listOption(options, 'dtypes').map(floatDType)
  const rounds = countOption(options, 'rounds')
  const [status] = use(cuda)
  if (status?.status !== 'ready')
    throw new UsageError(`no CUDA here: ${status?.reason}${status?.fix ? `\n${status.fix}` : ''}`)
  manualSeed(0)
  const base = baseline(rounds)
  process.stdout.write(
    `copy on the device: ${number(base.copyBandwidth)} GB/s read and written; smallest kernel: ${number(base.emptyLaunch)} µs\n\n`,
  )
  const report: Record<string, unknown> = { baseline: base }
  if (chosen('linear'))
    report.linear = measureLinear(base, { tokens: countsOption(options, 'linear-tokens'), dtypes, rounds })
  if (chosen('attention'))
    report.attention = measureAttention(base, {
      contexts: countsOption(options, 'contexts'),
      batches: countsOption(options, 'batches'),
      kvHeads: countsOption(options, 'kv-heads'),
      dtypes,
      rounds,
      gigabytes: countOption(options, 'gigabytes'),
    })
  if (chosen('ops'))
    report.ops = measureOps(base, {
      tokens: countsOption(options, 'tokens'),
      dtypes,
      ops: listOption(options, 'ops'),
      rounds,
      ...(options.peers ? { peers: options.peers } : {}),
    })
  if (chosen('call')) report.call = measureCalls({ rounds })
  return report
}

function floatDType(text: string): FloatDType {
  const found = floatDTypes.find((dtype) => dtype === text)
  if (!found) throw new UsageError(`--dtypes: expected ${floatDTypes.join(', ')}, received '${text}'`)
  return found
}

/** The CUDA kernels beside a copy on the device, torch.compile's versions, and calls from Python. */
export const cudaKernels: Benchmark = {
  name: 'cuda',
  title:
    'CUDA kernels in Llama 3 8B sizes, as a share of the bandwidth of a copy on the device in the same process',
  parts: PARTS,
  options: [
    { name: 'ops', value: 'LIST', help: 'only these ops of the part ops' },
    { name: 'dtypes', value: 'LIST', help: 'float32, float16, bfloat16', fallback: 'bfloat16' },
    { name: 'tokens', value: 'LIST', help: 'token counts of the part ops', fallback: '1,16,4096' },
    { name: 'linear-tokens', value: 'LIST', help: 'token counts of the part linear', fallback: '1,2,4,8,16' },
    { name: 'contexts', value: 'LIST', help: 'tokens of a sequence', fallback: '512,2048,8192,32768' },
    { name: 'batches', value: 'LIST', help: 'numbers of sequences', fallback: '1,8,32,128' },
    { name: 'kv-heads', value: 'LIST', help: 'heads of keys and values, of 32 heads', fallback: '8,32' },
    {
      name: 'gigabytes',
      value: 'N',
      help: 'of keys and values; larger batches are left out',
      fallback: '20',
    },
    { name: 'rounds', value: 'N', help: 'samples', fallback: '9' },
    { name: 'peers', value: 'FILE', help: "torch.compile's times, from bench/python/compile_peers.py" },
  ],
  run,
}
