// SPDX-License-Identifier: Apache-2.0
// The conformance cases under compute-sanitizer, all tools at once. Only kernels of ours are looked at.
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const TOOLS = ['memcheck', 'racecheck', 'initcheck', 'synccheck']
/** What the sanitizer answers for errors that it found; the command answers 1 for its own. */
const FOUND = 86

/**
 * Runs a command under each tool.
 *
 * @param {object} options
 * @param {readonly string[]} options.args `--tool NAME`, as often as wanted; the rest is the command's
 * @param {readonly string[]} options.command
 * @param {NodeJS.ProcessEnv} options.env
 * @param {string | undefined} options.out where sanitize.json and the tools' logs go
 * @returns {Promise<number>} 0 if no tool found anything and every case passed
 */
export async function sanitize({ args, command, env, out }) {
  const program = ['compute-sanitizer', '/usr/local/cuda/bin/compute-sanitizer'].find(
    (path) => spawnSync(path, ['--version'], { env }).status === 0,
  )
  if (!program) {
    process.stderr.write('compute-sanitizer was not found: it comes with the CUDA toolkit\n')
    return 127
  }
  /** @type {string[]} */
  const chosen = []
  const rest = [...args]
  for (let at = rest.indexOf('--tool'); at >= 0; at = rest.indexOf('--tool'))
    chosen.push(rest.splice(at, 2)[1] ?? '')
  const folder = out ?? mkdtempSync(join(tmpdir(), 'vllm-ops-sanitize-'))
  const tools = chosen.length > 0 ? chosen : TOOLS
  const runs = await Promise.all(
    tools.map((tool) => underTool(tool, program, [...command, ...rest], folder, env)),
  )
  writeFileSync(join(folder, 'sanitize.json'), `${JSON.stringify({ command: rest, runs }, null, 1)}\n`)
  for (const { tool, summary, exitCode, cases, seconds } of runs)
    process.stdout.write(
      `${tool.padEnd(10)} ${summary || 'no summary'}; exit code ${exitCode}; ${cases?.passed ?? 0} cases passed, ${cases?.failed ?? 0} failed; ${seconds.toFixed(0)} s\n`,
    )
  return runs.every(({ exitCode, clean }) => exitCode === 0 && clean) ? 0 : 1
}

/**
 * @param {string} tool
 * @param {string} program
 * @param {readonly string[]} command
 * @param {string} folder
 * @param {NodeJS.ProcessEnv} env
 */
async function underTool(tool, program, command, folder, env) {
  const log = join(folder, `sanitize-${tool}.log`)
  const report = join(mkdtempSync(join(tmpdir(), 'vllm-ops-sanitize-')), 'report.json')
  const options = [
    ...['--tool', tool, '--target-processes', 'all', '--kernel-name', 'kns=vllm_ops'],
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
  return {
    tool,
    summary,
    clean,
    exitCode,
    cases: { passed, failed },
    seconds: (performance.now() - began) / 1000,
  }
}
