// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises'
import type { FloatDType } from '@vllm-ops/core'
import type { ConformanceReport, ConformanceResult } from '@vllm-ops/core/testing'
import { type Command, Option } from 'commander'
import { PACKAGES, requireBackend } from '../backends'
import { UsageError } from '../errors'
import { ExitCode } from '../exit-code'
import { device, nonEmpty } from '../options'
import { printJson, say } from '../terminal'

interface ConformanceOptions {
  backend: keyof typeof PACKAGES
  device?: string
  op?: string[]
  dtype?: FloatDType[]
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
    .option('--json [file]', 'write the report to a file too; without a file, print it instead of the table')
    .action(run)
}

function knownDType(text: string): FloatDType {
  const dtype = DTYPES.find((known) => known === text)
  if (dtype) return dtype
  throw new UsageError(`option '--dtype' is one of ${DTYPES.join(', ')}, not '${text}'`, 'conformance')
}

async function run({ backend: name, device, op, dtype, json }: ConformanceOptions): Promise<void> {
  const { cards } = await import('@vllm-ops/core')
  const unknown = op?.find((name) => !cards.some(({ schema }) => schema.startsWith(`${name}(`)))
  if (unknown !== undefined)
    throw new UsageError(`there is no op '${unknown}': see vllm-ops ops`, 'conformance')
  const backend = await requireBackend(name)
  const { runConformance } = await import('@vllm-ops/core/testing')
  const began = performance.now()
  const report = runConformance({
    backend,
    device: device ?? name,
    ...(op ? { ops: op } : {}),
    ...(dtype ? { dtypes: dtype } : {}),
    onResult: announce,
  })
  const seconds = (performance.now() - began) / 1000
  if (json === true) printJson({ ...report, seconds })
  else process.stdout.write(`${describe(report)}in ${seconds.toFixed(1)} s\n`)
  if (typeof json === 'string') await writeFile(json, `${JSON.stringify({ ...report, seconds }, null, 1)}\n`)
  if (report.failed > 0) process.exitCode = ExitCode.failure
}

/** What is wrong is said as soon as it is known. */
function announce({ op, group, name, problem }: ConformanceResult): void {
  if (problem !== undefined) say(`FAILED ${[op, group, name].filter(Boolean).join(' > ')}\n  ${problem}`)
}

function describe({ ops, passed, failed, backend, device }: ConformanceReport): string {
  const lines = Object.entries(ops).map(([op, groups]) => {
    const counts = Object.entries(groups).map(
      ([group, { passed, of }]) => `${group || 'calls'} ${passed}/${of}`,
    )
    return `${op.padEnd(28)}${counts.join('  ')}\n`
  })
  return `${lines.join('')}${backend} on ${device}: ${passed} passed, ${failed} failed, `
}
