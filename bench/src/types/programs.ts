// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cards, declareOps, listOps, parseSchema } from '@vllm-ops/core'

/** A program for the compiler: a folder with a `tsconfig.json`. */
export interface Program {
  readonly name: string
  readonly folder: string
  /** What it may take beyond the base, in seconds. */
  readonly mostAdded?: number
}

/** The programs, in a folder that belongs to the caller. */
export interface Programs {
  readonly scratch: string
  /** Imports the package and calls no op: all others are this and more. */
  readonly base: Program
  readonly others: readonly Program[]
}

const SCRATCH = fileURLToPath(new URL('../.cache/', import.meta.url))
/** Calls of more than fifty ops whose types a declaration of aten decides; wrong ones follow. */
const FIFTY = fileURLToPath(new URL('../../packages/core/test/types-declared.ts', import.meta.url))

/** What a file that calls 50 ops may add to a type check, in seconds. */
const MOST_ADDED = 0.5

/** Those of a strict program; declarations of packages are not checked, as `tsc --init` has it. */
const compilerOptions = {
  target: 'es2022',
  module: 'nodenext',
  lib: ['es2023', 'esnext.disposable'],
  types: ['node'],
  strict: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: true,
  noEmit: true,
}

/** A program that makes a tensor: everything that importing the package costs is in it. */
const NOTHING = `import { ones, type Tensor } from '@vllm-ops/core'
export const x: Tensor = ones([2])
`

/** Every op of ours, each called with as many arguments as it has. */
function callsOfOurs(): string {
  const calls = cards.map(({ schema }) => {
    const { name, arguments: args } = parseSchema(schema)
    return `ops.${name}(${args.map(() => 'anything').join(', ')})`
  })
  return `import { ops } from '@vllm-ops/core'
declare const anything: never
export const results = [
  ${calls.join(',\n  ')},
]
`
}

/** Writes the programs into a folder of their own, below a package that knows `@vllm-ops/core`. */
export function writePrograms(): Programs {
  mkdirSync(SCRATCH, { recursive: true })
  const scratch = mkdtempSync(join(SCRATCH, 'types-'))
  const aten = declareOps(
    'aten',
    listOps('aten').map(({ schema }) => schema),
    'for a benchmark',
  )
  const claims = readFileSync(FIFTY, 'utf8')
  const fifty = claims.slice(0, claims.indexOf('/** Wrong calls'))
  const write = (name: string, files: Readonly<Record<string, string>>): Program => {
    const folder = join(scratch, name.replaceAll(/\W+/g, '-'))
    mkdirSync(folder)
    for (const [file, text] of Object.entries({ ...files, 'nothing.ts': NOTHING }))
      writeFileSync(join(folder, file), text)
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['*.ts'] }))
    return { name, folder }
  }
  return {
    scratch,
    base: write('importing core', {}),
    others: [
      { ...write('all ops of ours', { 'ours.ts': callsOfOurs() }), mostAdded: MOST_ADDED },
      {
        ...write('50 ops of aten, declared', { 'aten.d.ts': aten, 'fifty.ts': fifty }),
        mostAdded: MOST_ADDED,
      },
      // In a file that is not only declarations, the compiler looks for mistakes in the declaration too.
      write('the same, the declaration checked', { 'aten.ts': aten, 'fifty.ts': fifty }),
    ],
  }
}
