// SPDX-License-Identifier: Apache-2.0
// The conformance cases under compute-sanitizer: each tool and op in a process of its own, as many at once as there are cores. Only
// kernels of ours are looked at.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'

/** The slowest first. */
const TOOLS = ['initcheck', 'racecheck', 'memcheck', 'synccheck']
/**
 * Barriers in shared memory (mbarrier) that the sanitizer has room for. Those of a cluster's blocks count together: attention's have 65 in
 * each of up to 8. Left to itself it counts the places in the code that make some, and ends a kernel that has more as failed.
 */
const BARRIERS = 1024
/** What the sanitizer answers for errors that it found; the command answers 1 for its own. */
const FOUND = 86

/**
 * Runs the cases under each tool.
 *
 * @param {object} options
 * @param {readonly string[]} options.args `--tool NAME` and `--op NAME`, as often as wanted, all by default; the rest is for conformance
 * @param {readonly string[]} options.cli the command line of vllm-ops
 * @param {NodeJS.ProcessEnv} options.env
 * @param {string | undefined} options.out where sanitize.json goes, and the logs of what was not clean
 * @returns {Promise<number>} 0 if no tool found anything and every case passed
 */
export async function sanitize({ args, cli, env, out }) {
  const program = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'].find(
    (path) => spawnSync(path, ['--version'], { env }).status === 0,
  )
  if (!program) {
    process.stderr.write('compute-sanitizer was not found: it comes with the CUDA toolkit\n')
    return 127
  }
  const rest = [...args]
  const tools = taken(rest, '--tool')
  const named = taken(rest, '--op')
  const ops = named.length > 0 ? named : allOps(cli, env)
  const folder = out ?? mkdtempSync(join(tmpdir(), 'vllm-ops-sanitize-'))
  const tasks = (tools.length > 0 ? tools : TOOLS).flatMap((tool) => ops.map((op) => ({ tool, op })))
  /** @type {Awaited<ReturnType<typeof underTool>>[]} */
  const runs = []
  const next = tasks[Symbol.iterator]()
  const worker = async () => {
    for (const { tool, op } of next)
      runs.push(
        await underTool(
          tool,
          op,
          program,
          [...cli, 'conformance', '--backend', 'cuda', '--op', op, ...rest],
          folder,
          env,
        ),
      )
  }
  await Promise.all(Array.from({ length: availableParallelism() }, worker))
  writeFileSync(join(folder, 'sanitize.json'), `${JSON.stringify({ command: rest, runs }, null, 1)}\n`)
  const good = (/** @type {(typeof runs)[number]} */ { exitCode, clean }) => exitCode === 0 && clean
  for (const tool of new Set(tasks.map((task) => task.tool))) {
    const own = runs.filter((run) => run.tool === tool)
    const sum = (/** @type {'passed' | 'failed'} */ which) =>
      own.reduce((cases, run) => cases + (run.cases[which] ?? 0), 0)
    const seconds = own.reduce((total, run) => total + run.seconds, 0)
    process.stdout.write(
      `${tool.padEnd(10)} ${own.filter(good).length} of ${own.length} ops clean; ${sum('passed')} cases passed, ${sum('failed')} failed; ${seconds.toFixed(0)} s of processes\n`,
    )
    for (const { op, summary, exitCode } of own.filter((run) => !good(run)))
      process.stdout.write(`  ${op}: ${summary || 'no summary'}; exit code ${exitCode}\n`)
  }
  return runs.every(good) ? 0 : 1
}

/**
 * Takes an option out of arguments, as often as it is there.
 *
 * @param {string[]} args
 * @param {string} option
 */
function taken(args, option) {
  /** @type {string[]} */
  const values = []
  for (let at = args.indexOf(option); at >= 0; at = args.indexOf(option))
    values.push(args.splice(at, 2)[1] ?? '')
  return values
}

/**
 * @param {readonly string[]} cli
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]}
 */
function allOps([node = process.execPath, ...cli], env) {
  const { stdout } = spawnSync(node, [...cli, 'ops', '--json'], { env, encoding: 'utf8' })
  return JSON.parse(stdout).map((/** @type {{ name: string }} */ { name }) => name.replace(/^.*::/, ''))
}

/**
 * @param {string} tool
 * @param {string} op
 * @param {string} program
 * @param {readonly string[]} command
 * @param {string} folder
 * @param {NodeJS.ProcessEnv} env
 */
async function underTool(tool, op, program, command, folder, env) {
  const log = join(folder, `sanitize-${tool}-${op}.log`)
  const report = join(mkdtempSync(join(tmpdir(), 'vllm-ops-sanitize-')), 'report.json')
  const options = [
    ...['--tool', tool, '--target-processes', 'all', '--kernel-name', 'kns=vllm_ops'],
    ...['--num-cuda-barriers', `${BARRIERS}`],
    ...['--error-exitcode', `${FOUND}`, '--print-limit', '50', '--log-file', log],
  ]
  const began = performance.now()
  const child = spawn(program, [...options, ...command, '--json', report], {
    // Every tensor in an allocation of its own: reading behind one is then seen.
    env: { ...env, PYTORCH_NO_CUDA_MEMORY_CACHING: '1' },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  const exitCode = await new Promise((done) => {
    child.once('error', () => done(127))
    child.once('close', (code) => done(code ?? 1))
  })
  const text = existsSync(log) ? readFileSync(log, 'utf8') : ''
  const summary = /^========= (.*SUMMARY:.*)$/m.exec(text)?.[1] ?? ''
  const { passed, failed } = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {}
  const clean = /SUMMARY: 0 (errors|hazards)/.test(summary)
  if (clean && exitCode === 0) rmSync(log)
  return {
    tool,
    op,
    summary,
    clean,
    exitCode,
    cases: { passed, failed },
    seconds: (performance.now() - began) / 1000,
  }
}
