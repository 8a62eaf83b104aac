// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Benchmark, countOption, type OptionValues } from '../benchmark'
import { type Summary, summarize } from '../statistics'
import { number, table } from '../table'
import { type Program, writePrograms } from './programs'

/** What the compiler took for a program. */
interface Sample {
  /** Of the process, from start to end, in seconds. */
  readonly wall: number
  /** The compiler's own time for checking, in seconds. */
  readonly check: number
  readonly instantiations: number
}

/** Found when it is wanted: where other benchmarks run there may be no compiler. */
const compiler = () => createRequire(import.meta.url).resolve('typescript/bin/tsc')

function compile({ name, folder }: Program): Sample {
  const start = performance.now()
  const args = [compiler(), '-p', folder, '--extendedDiagnostics']
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  const wall = (performance.now() - start) / 1000
  if (status !== 0) throw new Error(`${name}: the compiler says\n${stdout}`)
  const figure = (label: string) => Number(new RegExp(`^${label}: +([\\d.]+)`, 'm').exec(stdout)?.[1])
  return { wall, check: figure('Check time'), instantiations: figure('Instantiations') }
}

interface Result {
  readonly name: string
  readonly wall: Summary
  readonly check: Summary
  readonly instantiations: number
}

/** How much more a program takes than the base, of the least of all rounds: what else runs on a machine only ever adds. */
interface Added {
  readonly wall: number
  readonly check: number
  readonly instantiations: number
  readonly mostAdded?: number
  readonly met?: boolean
}

async function run(options: OptionValues): Promise<Record<string, unknown>> {
  const rounds = countOption(options, 'rounds')
  const { scratch, base, others } = writePrograms()
  const programs = [base, ...others]
  const samples: Sample[][] = programs.map(() => [])
  try {
    // One round is not counted: files come from the disk in it.
    for (let round = -1; round < rounds; round++)
      for (const [i, program] of programs.entries()) {
        const sample = compile(program)
        if (round >= 0) samples[i]!.push(sample)
      }
  } finally {
    rmSync(scratch, { recursive: true })
  }
  const [ofBase = [], ...ofOthers] = samples
  const baseline = resultOf(base, ofBase)
  const results = others.map((program, i) => {
    const own = resultOf(program, ofOthers[i]!)
    return { ...own, added: addedBy(program, own, baseline) }
  })
  print(baseline, results)
  return { unit: 's', base: baseline, results }
}

function resultOf({ name }: Program, samples: readonly Sample[]): Result {
  return {
    name,
    wall: summarize(samples.map(({ wall }) => wall)),
    check: summarize(samples.map(({ check }) => check)),
    instantiations: samples[0]!.instantiations,
  }
}

function addedBy({ mostAdded }: Program, own: Result, base: Result): Added {
  const wall = own.wall.least - base.wall.least
  return {
    wall,
    check: own.check.least - base.check.least,
    instantiations: own.instantiations - base.instantiations,
    ...(mostAdded !== undefined && { mostAdded, met: wall < mostAdded }),
  }
}

function print(base: Result, results: readonly (Result & { readonly added: Added })[]): void {
  const figures = ({ name, wall, check, instantiations }: Result) => [
    name,
    number(wall.least),
    number(wall.median),
    number(check.least),
    String(instantiations),
  ]
  const lines = [
    figures(base),
    ...results.map((result) => {
      const { wall, check, mostAdded, met } = result.added
      const bound = mostAdded === undefined ? '' : `< ${mostAdded}: ${met ? 'met' : 'missed'}`
      return [...figures(result), number(wall), number(check), bound]
    }),
  ]
  const header = [
    'program, s, least of all rounds',
    'wall',
    'median',
    'check',
    'instantiations',
    'adds wall',
    'adds check',
    'wall at most',
  ]
  process.stdout.write(table(header, lines))
}

/** What the types of ops cost the compiler. */
export const types: Benchmark = {
  name: 'types',
  title: 'tsc over a program that calls ops, beside the same program without these calls',
  options: [{ name: 'rounds', value: 'N', help: 'runs of each program, in turn', fallback: '15' }],
  run,
}
