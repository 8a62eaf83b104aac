// SPDX-License-Identifier: Apache-2.0
import {
  cards,
  type FloatDType,
  floatDTypes,
  getNumThreads,
  manualSeed,
  scope,
  setNumThreads,
} from '@vllm-ops/core'
import { isa, setIsa } from '@vllm-ops/cpu'
import {
  type Benchmark,
  countOption,
  countsOption,
  listOption,
  type OptionValues,
  UsageError,
} from '../benchmark'
import { number, percent, table } from '../table'
import { type KernelCase, kernelCases } from './calls'
import { type Measurement, PreparedCase } from './measure'

/** The share of the copy bandwidth that a kernel bound by memory has to reach with its data in memory. */
const TARGET_SHARE = 0.8
const TARGET_TOKENS = 2048

/** One line of the table. */
interface Result extends Measurement {
  readonly kernel: string
  readonly dtype: FloatDType
  readonly tokens: number | string
  readonly threads: number
  readonly isa: string
  readonly target?: number
}

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const threads = countsOption(options, 'threads')
  const rounds = countOption(options, 'rounds')
  const chosen = listOption(options, 'ops')
  const selected = kernelCases.filter(({ op }) => chosen.length === 0 || chosen.includes(op))
  if (selected.length === 0) throw new UsageError(`--ops: none of ${chosen.join(', ')} is measured here`)
  const dtypes = listOption(options, 'dtypes').map(floatDType)
  if (options.isa) setIsa(options.isa)
  const before = getNumThreads()
  const results: Result[] = []
  for (const kernel of selected) {
    for (const dtype of dtypes) {
      for (const { tokens, label } of sizes(kernel, countsOption(options, 'tokens'))) {
        const measured = measure(kernel, dtype, tokens, { threads, rounds })
        const target = kernel.hasTarget && tokens === TARGET_TOKENS ? { target: TARGET_SHARE } : {}
        for (const [count, measurement] of measured)
          results.push({
            kernel: kernel.name,
            dtype,
            tokens: label,
            threads: count,
            isa: isa(),
            ...measurement,
            ...target,
          })
        process.stderr.write('.')
      }
    }
  }
  setNumThreads(before)
  process.stderr.write('\n')
  print(results)
  return { targetShare: TARGET_SHARE, results }
}

function floatDType(text: string): FloatDType {
  const found = floatDTypes.find((dtype) => dtype === text)
  if (!found) throw new UsageError(`--dtypes: expected ${floatDTypes.join(', ')}, received '${text}'`)
  return found
}

function sizes(kernel: KernelCase, tokens: readonly number[]): { tokens: number; label: number | string }[] {
  return kernel.fixed ? [kernel.fixed] : tokens.map((count) => ({ tokens: count, label: count }))
}

/** One kernel, dtype and size on each number of threads; frees everything that it made. */
function measure(
  kernel: KernelCase,
  dtype: FloatDType,
  tokens: number,
  { threads, rounds }: { threads: readonly number[]; rounds: number },
): [number, Measurement][] {
  const card = cards.find(({ schema }) => schema.startsWith(`${kernel.op}(`))
  if (!card) throw new Error(`no card of ${kernel.op}`)
  return scope(() => {
    manualSeed(0)
    setNumThreads(Math.max(...threads))
    const prepared = new PreparedCase(kernel, card, tokens, dtype)
    return threads.map((count) => {
      setNumThreads(count)
      return [count, prepared.measure(rounds)] satisfies [number, Measurement]
    })
  })
}

function print(results: readonly Result[]): void {
  const lines = results.map(({ kernel, dtype, tokens, threads, ns, copyNs, bytes, flops, share, target }) => [
    kernel,
    dtype,
    `${tokens}`,
    `${threads}`,
    number(ns.median / 1e3),
    number(bytes / ns.median),
    number(bytes / copyNs.median),
    percent(share),
    flops > bytes ? number(flops / ns.median) : '',
    target === undefined ? '' : `≥ ${percent(target)}: ${share >= target ? 'met' : 'missed'}`,
  ])
  const header = [
    'kernel',
    'dtype',
    'tokens',
    'threads',
    'µs',
    'GB/s',
    'copy GB/s',
    'of the copy',
    'GFLOP/s',
    'target',
  ]
  process.stdout.write(table(header, lines, 2))
}

/** The CPU kernels beside a copy of as many bytes. */
export const kernels: Benchmark = {
  name: 'kernels',
  title: 'CPU kernels in Llama 3 8B sizes, as a share of the bandwidth of aten::copy_ in the same process',
  options: [
    { name: 'ops', value: 'LIST', help: 'only these ops' },
    { name: 'dtypes', value: 'LIST', help: 'float32, float16, bfloat16', fallback: 'bfloat16,float32' },
    { name: 'tokens', value: 'LIST', help: 'token counts', fallback: '1,2048' },
    { name: 'threads', value: 'LIST', help: 'numbers of threads', fallback: '1,2' },
    { name: 'rounds', value: 'N', help: 'samples, the call and the copy in turn', fallback: '15' },
    { name: 'isa', value: 'NAME', help: 'instruction set of the kernels; the best one where none is named' },
  ],
  run,
}
