// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Check, listOption, reportOf, say } from './check'
import { SANITIZER } from './child'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Builds and a copy of the packages that has them in the place of their own. */
const STAGE = join(ROOT, '.cache/asan')

/** The exit code of a process that a sanitizer ends. */
const REPORTED = 86

/** The checks that run on the instrumented build. Those of memory in use would measure the sanitizer. */
const RUNS: Readonly<Record<string, readonly string[]>> = {
  guards: ['--placements', 'amid'],
  views: ['--count', '300'],
  terminate: ['--count', '56', '--parallel', '2'],
  envs: ['--workers', '4', '--cycles', '5'],
  badcalls: ['--count', '20000'],
}

/** The addon and the kernels, compiled with sanitizers, have nothing to report. */
export const asan: Check = {
  name: 'asan',
  describe:
    'the addon and the CPU kernels under AddressSanitizer and UndefinedBehaviorSanitizer, in other checks: no report',
  options: [
    { name: 'checks', value: 'LIST', help: 'which checks to run', fallback: Object.keys(RUNS).join(',') },
  ],
  async run(options) {
    await build()
    stage()
    const failures: string[] = []
    const results: Record<string, unknown> = {}
    let reports = 0
    const main = join(STAGE, 'checks/dist/main.js')
    const there = await succeed(process.execPath, [main])
    for (const name of listOption(options, 'checks')) {
      if (!there.includes(`\n  ${name} `)) {
        results[name] = 'no such check'
        continue
      }
      const log = join(STAGE, `reports-${name}`)
      rmSync(log, { recursive: true, force: true })
      mkdirSync(log)
      say(`asan: ${name}`)
      const { code, stdout } = await command(process.execPath, [main, name, ...(RUNS[name] ?? [])], {
        ...process.env,
        ...(await sanitizers(join(log, 'report'))),
      })
      const found = readdirSync(log)
      // UndefinedBehaviorSanitizer writes to stderr, whatever it is told: children that it ended count by the sentences on them.
      const ended = stdout.split(`exit code ${REPORTED}: `).length - 1
      reports += Math.max(found.length, ended)
      results[name] = code
      if (code !== 0) failures.push(`${name}: exit code ${code}: ${stdout.slice(-2000)}`)
      for (const file of found.slice(0, 10))
        failures.push(`${name}: ${summaryOf(readFileSync(join(log, file), 'utf8'))}`)
    }
    return reportOf({ exitCodes: results, reports }, failures)
  },
}

/** Both builds, in folders of their own; what has not changed is not built again. */
async function build(): Promise<void> {
  const core = join(ROOT, 'packages/core')
  const { include_dir: headers } = JSON.parse(
    await succeed(process.execPath, ['-p', "JSON.stringify(require('node-api-headers'))"], core),
  ) as { include_dir: string }
  const settings = ['-DCMAKE_BUILD_TYPE=Release', '-DVLLM_OPS_SANITIZE=ON', '--log-level=WARNING']
  for (const [name, more] of [
    ['core', [`-DCMAKE_JS_INC=${headers}`]],
    ['cpu', []],
  ] as const) {
    say(`asan: building ${name} (the first time takes some minutes)`)
    const folder = join(STAGE, name)
    await succeed('cmake', ['-S', join(ROOT, 'packages', name), '-B', folder, ...settings, ...more])
    await succeed('cmake', ['--build', folder, '--parallel', '2'])
  }
}

/** The packages as they are, with the instrumented binaries: they look for them beside themselves. */
function stage(): void {
  const modules = join(STAGE, 'node_modules')
  const packages = join(modules, '@vllm-ops')
  rmSync(modules, { recursive: true, force: true })
  rmSync(join(STAGE, 'checks'), { recursive: true, force: true })
  const copy = (from: string, to: string) => {
    for (const part of ['package.json', 'dist']) cpSync(join(from, part), join(to, part), { recursive: true })
  }
  copy(join(ROOT, 'checks'), join(STAGE, 'checks'))
  for (const dependency of dependenciesOf(join(ROOT, 'checks'))) {
    const from = join(ROOT, 'packages', dependency.replace('@vllm-ops/', ''))
    const to = join(modules, dependency)
    copy(from, to)
    // Those of others as they are; ours are beside this one.
    for (const name of dependenciesOf(from).filter((name) => !name.startsWith('@vllm-ops/'))) {
      mkdirSync(dirname(join(to, 'node_modules', name)), { recursive: true })
      symlinkSync(realpathSync(join(from, 'node_modules', name)), join(to, 'node_modules', name))
    }
  }
  for (const name of ['core', 'cpu'])
    for (const file of binariesOf(join(STAGE, name)))
      cpSync(file, join(packages, name, 'build/Release', file.slice(file.lastIndexOf('/') + 1)))
}

function dependenciesOf(folder: string): string[] {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as {
    dependencies?: Readonly<Record<string, string>>
  }
  return Object.keys(manifest.dependencies ?? {})
}

function binariesOf(folder: string): string[] {
  return [folder, join(folder, 'Release')]
    .flatMap((place) => {
      try {
        return readdirSync(place).map((file) => join(place, file))
      } catch {
        return []
      }
    })
    .filter((file) => file.endsWith('.node') || file.endsWith('.so'))
}

/** Node itself is not instrumented: the sanitizer's library comes first by hand. Leaks are the check `leak`'s. */
async function sanitizers(log: string): Promise<NodeJS.ProcessEnv> {
  const compiler = process.env.CXX ?? 'c++'
  const library = (await succeed(compiler, ['-print-file-name=libasan.so'])).trim()
  const options = `log_path=${log}:exitcode=${REPORTED}:halt_on_error=1`
  return {
    LD_PRELOAD: library,
    ASAN_OPTIONS: `${options}:detect_leaks=0:alloc_dealloc_mismatch=0:detect_odr_violation=0`,
    UBSAN_OPTIONS: `${options}:print_stacktrace=1`,
  }
}

/** The line that says what it is, and the first frames. */
function summaryOf(report: string): string {
  const lines = report.split('\n')
  const what = lines.find((line) => SANITIZER.test(line)) ?? lines[0] ?? ''
  const frames = lines.filter((line) => /^ +#\d/.test(line)).slice(0, 4)
  return [what, ...frames.map((frame) => frame.trim())].join(' | ')
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
}

function command(path: string, args: readonly string[], env = process.env, cwd = ROOT): Promise<Ended> {
  const child = spawn(path, args, { cwd, env, stdio: ['ignore', 'pipe', 'inherit'] })
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text
  })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout }))
  })
}

/** What a tool prints, which must not fail. */
async function succeed(path: string, args: readonly string[], cwd = ROOT): Promise<string> {
  const { code, stdout } = await command(path, args, process.env, cwd)
  if (code !== 0) throw new Error(`${path} ${args.join(' ')}: exit code ${code}\n${stdout}`)
  return stdout
}
