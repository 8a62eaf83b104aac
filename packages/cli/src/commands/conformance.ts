// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises'
import type { FloatDType } from '@vllm-ops/core'
import type { ConformanceReport, ConformanceResult, RunOptions } from '@vllm-ops/core/testing'
import { type Command, Option } from 'commander'
import { PACKAGES, requireBackend } from '../backends'
import { UsageError } from '../errors'
import { ExitCode } from '../exit-code'
import { device, integer, nonEmpty } from '../options'
import { printJson, say } from '../terminal'

interface ConformanceOptions {
  backend: keyof typeof PACKAGES
  device?: string
  op?: string[]
  dtype?: FloatDType[]
  every?: number
  repeat?: number
  calls?: number
  /** A file, or true for stdout. */
  json?: string | true
}

const DTYPES: readonly FloatDType[] = ['float32', 'float16', 'bfloat16']

/** `vllm-ops conformance`: every case of every op's card on a device, compared with the reference. */
export function addConformance(program: Command): void {
  const repeated = <T>(value: T, before: T[] = []) => [...before, value]
  program
    .command('conformance')
    .description('run the cases of the op cards on a device and compare with the reference')
    .addOption(new Option('--backend <name>', 'whose kernels').choices(Object.keys(PACKAGES)).default('cpu'))
    .option('--device <device>', 'where the tensors live; the device of the backend by default', device)
    .option('--op <name>', 'only this op; may be repeated', (text: string, before?: string[]) =>
      repeated(nonEmpty(text), before),
    )
    .addOption(
      new Option('--dtype <dtype>', 'only this dtype; may be repeated')
        .choices(DTYPES)
        .argParser<FloatDType[]>((text, before) => repeated(knownDType(text), before)),
    )
    .option('--every <n>', 'only each n-th case of an op', integer({ min: 1 }))
    .addOption(
      new Option('--repeat <n>', 'run every case n times instead: the same bits each time')
        .argParser(integer({ min: 2 }))
        .conflicts('calls'),
    )
    .option(
      '--calls <n>',
      'make n calls in all instead: what the device has allocated is the same before and after',
      integer({ min: 1 }),
    )
    .option('--json [file]', 'write the report to a file too; without a file, print it instead of the table')
    .action(run)
}

function knownDType(text: string): FloatDType {
  const dtype = DTYPES.find((known) => known === text)
  if (dtype) return dtype
  throw new UsageError(`option '--dtype' is one of ${DTYPES.join(', ')}, not '${text}'`, 'conformance')
}

async function run(options: ConformanceOptions): Promise<void> {
  const { backend: name, device = name, op: ops, dtype: dtypes, every, repeat, calls, json } = options
  const { cards } = await import('@vllm-ops/core')
  const unknown = ops?.find((op) => !cards.some(({ schema }) => schema.startsWith(`${op}(`)))
  if (unknown !== undefined)
    throw new UsageError(`there is no op '${unknown}': see vllm-ops ops`, 'conformance')
  const backend = await requireBackend(name)
  const { countMemory, repeatCases, runConformance } = await import('@vllm-ops/core/testing')
  const what: RunOptions = {
    ...{ backend, device, onResult: announce },
    ...(ops ? { ops } : {}),
    ...(dtypes ? { dtypes } : {}),
    ...(every ? { every } : {}),
  }
  const began = performance.now()
  const report =
    repeat !== undefined
      ? repeatCases({ ...what, times: repeat })
      : calls !== undefined
        ? countMemory({ ...what, calls })
        : runConformance(what)
  const seconds = (performance.now() - began) / 1000
  const result = { ...report, seconds, ...(repeat ? { repeat } : {}), ...(calls ? { calls } : {}) }
  if (json === true) printJson(result)
  else process.stdout.write(`${describe(report)}in ${seconds.toFixed(1)} s\n`)
  if (typeof json === 'string') await writeFile(json, `${JSON.stringify(result, null, 1)}\n`)
  if (report.failed > 0) process.exitCode = ExitCode.failure
}

/** What is wrong is said as soon as it is known. */
function announce({ op, group, name, problem }: ConformanceResult): void {
  if (problem !== undefined) say(`FAILED ${[op, group, name].filter(Boolean).join(' > ')}\n  ${problem}`)
}

function describe({ ops, passed, failed, backend, device }: ConformanceReport): string {
  const width = Math.max(0, ...Object.keys(ops).map(({ length }) => length))
  const lines = Object.entries(ops).map(([op, groups]) => {
    const counts = Object.entries(groups).map(
      ([group, { passed, of }]) => `${group || 'calls'} ${passed}/${of}`,
    )
    return `${op.padEnd(width)}  ${counts.join('  ')}\n`
  })
  return `${lines.join('')}${backend} on ${device}: ${passed} passed, ${failed} failed, `
}
