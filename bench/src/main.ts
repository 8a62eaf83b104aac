// SPDX-License-Identifier: Apache-2.0
//
// npm run bench -- NAME [options]
import { writeFileSync } from 'node:fs'
import type { ParseArgsConfig } from 'node:util'
import { parseArgs } from 'node:util'
import { type Benchmark, type OptionValues, UsageError } from './benchmark'
import { cudaKernels } from './cuda'
import { dispatch } from './dispatch'
import { kernels } from './kernels'
import { llama } from './llama'
import { llamaCuda } from './llama-cuda'
import { machine } from './machine'
import { prefill } from './prefill'
import { profiler } from './profiler'
import { types } from './types'

const benchmarks: readonly Benchmark[] = [
  dispatch,
  kernels,
  llama,
  cudaKernels,
  llamaCuda,
  prefill,
  profiler,
  types,
]

const USAGE_EXIT_CODE = 2

async function main(): Promise<void> {
  const [name, ...args] = process.argv.slice(2)
  const benchmark = benchmarks.find((candidate) => candidate.name === name)
  if (!benchmark) return usage(name === undefined || name === '--help' ? undefined : `no benchmark '${name}'`)
  const options = parse(benchmark, args)
  if (!options) return
  const description = machine(options)
  process.stdout.write(`${benchmark.title}\n${description.text}\n\n`)
  const results = await benchmark.run(options)
  if (options.json) {
    const report = { benchmark: benchmark.name, machine: description.facts, options, ...results }
    writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`)
  }
}

function parse(benchmark: Benchmark, args: string[]): OptionValues | undefined {
  const options: ParseArgsConfig['options'] = { json: { type: 'string' }, help: { type: 'boolean' } }
  for (const { name } of benchmark.options) options[name] = { type: 'string' }
  try {
    const { values, positionals } = parseArgs({
      args,
      options,
      allowPositionals: benchmark.parts !== undefined,
    })
    if (values.help) {
      usage()
      return undefined
    }
    const given: Record<string, string> = {}
    if (benchmark.parts) given.parts = positionals.join()
    for (const { name, fallback } of benchmark.options) if (fallback !== undefined) given[name] = fallback
    for (const [name, value] of Object.entries(values)) if (typeof value === 'string') given[name] = value
    return given
  } catch (error) {
    usage(error instanceof Error ? error.message : String(error))
    return undefined
  }
}

function usage(problem?: string): void {
  const lines = ['usage: npm run bench -- NAME [options] [--json FILE]', '']
  for (const { name, title, options, parts } of benchmarks) {
    lines.push(`${name}${parts ? ` [${parts.join(' | ')}]` : ''}: ${title}`)
    for (const option of options) {
      const fallback = option.fallback === undefined ? '' : ` (${option.fallback})`
      lines.push(`  --${option.name} ${option.value}  ${option.help}${fallback}`)
    }
  }
  const stream = problem === undefined ? process.stdout : process.stderr
  if (problem !== undefined) lines.unshift(problem)
  stream.write(`${lines.join('\n')}\n`)
  if (problem !== undefined) process.exitCode = USAGE_EXIT_CODE
}

try {
  await main()
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  usage(error.message)
}
