// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { sanitize } from '../gpu/sanitize.mjs'
import { packGpuBundle } from '../gpu-bundle.mjs'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'scripts-gpu-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** A search path with a compute-sanitizer that runs the command and then says this, with these exit codes by tool. */
function putSanitizer(summary: string, racecheck = 0): NodeJS.ProcessEnv {
  mkdirSync(join(root, 'bin'))
  const script = `#!/bin/sh
[ "$1" = --version ] && exit 0
tool=$2
while [ "$1" != node ]; do [ "$1" = --log-file ] && log=$2; shift; done
"$@"
echo '========= ${summary}' > "$log"
[ $tool = racecheck ] && exit ${racecheck}
exit 0
`
  writeFileSync(join(root, 'bin/compute-sanitizer'), script, { mode: 0o755 })
  return { ...process.env, PATH: [join(root, 'bin'), process.env.PATH].join(delimiter) }
}

/** A command line that has two ops, and writes the report of five passed cases to the last of its arguments. */
function cli(): string[] {
  const file = join(root, 'cli.cjs')
  writeFileSync(
    file,
    `if (process.argv[2] === 'ops') console.log(JSON.stringify([{ name: 'vllm_ops::rms_norm' }, { name: 'vllm_ops::silu_and_mul' }]))
     else require('fs').writeFileSync(process.argv.at(-1), JSON.stringify({ passed: 5, failed: 0 }))`,
  )
  return ['node', file]
}

const run = (env: NodeJS.ProcessEnv, args: string[] = []) => sanitize({ args, cli: cli(), env, out: root })
const report = () => JSON.parse(readFileSync(join(root, 'sanitize.json'), 'utf8'))

type Run = { tool: string; op: string; exitCode: number }
const names = () => report().runs.map(({ tool, op }: Run) => `${tool} ${op}`)

test('runs the cases of each op under every tool, reports what each says, and keeps no log of clean ones', async () => {
  expect(await run(putSanitizer('ERROR SUMMARY: 0 errors'))).toBe(0)
  const tools = ['initcheck', 'memcheck', 'racecheck', 'synccheck']
  expect(names().sort()).toEqual(tools.flatMap((tool) => [`${tool} rms_norm`, `${tool} silu_and_mul`]))
  expect(report().runs[0]).toMatchObject({ clean: true, exitCode: 0, cases: { passed: 5, failed: 0 } })
  expect(readdirSync(root).filter((name) => name.endsWith('.log'))).toEqual([])
})

test('runs the tools and ops that are named', async () => {
  await run(putSanitizer('ERROR SUMMARY: 0 errors'), ['--tool', 'memcheck', '--op', 'rms_norm'])
  expect(names()).toEqual(['memcheck rms_norm'])
})

test('fails where a tool found something, or ended with an error', async () => {
  expect(await run(putSanitizer('ERROR SUMMARY: 2 errors'), ['--tool', 'memcheck', '--op', 'rms_norm'])).toBe(
    1,
  )
  expect(report().runs).toMatchObject([
    { tool: 'memcheck', op: 'rms_norm', clean: false, summary: 'ERROR SUMMARY: 2 errors' },
  ])
  expect(readdirSync(root)).toContain('sanitize-memcheck-rms_norm.log')
})

test('fails where one of the tools ended with an error', async () => {
  const env = putSanitizer('RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)', 86)
  expect(await run(env, ['--tool', 'memcheck', '--tool', 'racecheck', '--op', 'rms_norm'])).toBe(1)
  const failed = report().runs.filter(({ exitCode }: Run) => exitCode === 86)
  expect(failed.map(({ tool }: Run) => tool)).toEqual(['racecheck'])
})

test('the bundle lists its commands without setting anything up', () => {
  const gpu = fileURLToPath(new URL('../gpu/gpu.mjs', import.meta.url))
  const { status, stdout } = spawnSync(process.execPath, [gpu, 'help'], { encoding: 'utf8' })
  expect({ status, first: stdout.split('\n')[0] }).toEqual({
    status: 0,
    first: 'usage: ./gpu COMMAND [ARGUMENT…] [--out DIR]',
  })
})

test.each([[['--out']], [['somewhere']], [['--out', 'a', 'b']]])('refuses to pack with %j', (args) => {
  expect(packGpuBundle(args)).toBe(2)
})
