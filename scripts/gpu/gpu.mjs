// SPDX-License-Identifier: Apache-2.0
// The commands of the GPU bundle, on a host without network, Node and npm. The first one builds core's addon against the torch that
// is there. Reports go to the folder that --out names, flat; talk and tables to the terminal.
import { spawn, spawnSync } from 'node:child_process'
import { createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sanitize } from './sanitize.mjs'

const USAGE = `usage: ./gpu COMMAND [ARGUMENT…] [--out DIR]
  setup                       builds what has to be built here (every command does), and shows doctor
  conformance [ARGUMENT…]     vllm-ops conformance, on CUDA unless --backend says otherwise
  check NAME [ARGUMENT…]      a check of npm run check
  bench NAME [ARGUMENT…]      a benchmark of npm run bench
  sanitize [--tool NAME]… [ARGUMENT…]   conformance under compute-sanitizer: memcheck, racecheck, initcheck, synccheck
  vllm-ops ARGUMENT…          the command line
  node ARGUMENT…              the bundle's Node, which finds torch
`

const ROOT = dirname(fileURLToPath(import.meta.url))
const CLI = join(ROOT, 'packages/cli/bin/vllm-ops.js')

/** What is built here, against the torch that is there: projects of CMake, and where their libraries go. */
const NATIVE = [
  { source: 'packages/core', output: 'packages/core/build/Release' },
  { source: 'packages/cuda/csrc/device_module', output: 'packages/cuda/build/Release' },
].filter(({ source }) => existsSync(join(ROOT, source, 'CMakeLists.txt')))

async function main() {
  const args = process.argv.slice(2)
  const at = args.indexOf('--out')
  const out = at < 0 ? undefined : resolve(args.splice(at, 2)[1] ?? '.')
  const command = args.shift() ?? 'help'
  if (out) mkdirSync(out, { recursive: true })
  if (command === 'help' || command === '--help') {
    process.stdout.write(USAGE)
    return 0
  }
  const env = await setup()
  const report = (/** @type {string} */ name) => (out ? ['--json', join(out, `${name}.json`)] : [])
  switch (command) {
    case 'setup':
      return await run(process.execPath, [CLI, 'doctor'], env)
    case 'conformance': {
      const backend = args.includes('--backend') ? [] : ['--backend', 'cuda']
      const [mode = 'cases'] = ['repeat', 'calls'].filter((name) => args.includes(`--${name}`))
      return await run(
        process.execPath,
        [CLI, 'conformance', ...backend, ...report(`conformance-${mode}`), ...args],
        env,
      )
    }
    case 'check': {
      // A check prints its report as one line of JSON.
      const file = out && join(out, `check-${args[0]}.json`)
      return await run(process.execPath, [join(ROOT, 'checks/dist/main.js'), ...args], env, file)
    }
    case 'bench':
      return await run(
        process.execPath,
        [join(ROOT, 'bench/dist/main.js'), ...args, ...report(`bench-${args[0]}`)],
        env,
      )
    case 'sanitize':
      return await sanitize({ args, cli: [process.execPath, CLI], env, out })
    case 'vllm-ops':
      return await run(process.execPath, [CLI, ...args], env)
    case 'node':
      return await run(process.execPath, args, env)
    default:
      process.stderr.write(USAGE)
      return 2
  }
}

/**
 * Finds torch and builds against it what is not built yet.
 *
 * @returns {Promise<NodeJS.ProcessEnv>} the environment for everything else
 */
async function setup() {
  const source = process.env.LIBTORCH ? {} : { VLLM_OPS_TORCH: 'python' }
  const { root, version } = findLibtorch({ ...process.env, ...source })
  const { VLLM_OPS_TORCH: _, ...rest } = process.env
  const env = { ...rest, LIBTORCH: root }
  const stamp = join(ROOT, '.built')
  const wanted = `${version} ${root}`
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return env
  say(`building against torch ${version} in ${root}`)
  const began = performance.now()
  await Promise.all(NATIVE.map((project) => build(project, root, env)))
  writeFileSync(stamp, wanted)
  say(`built in ${((performance.now() - began) / 1000).toFixed(1)} s`)
  return env
}

/**
 * @param {NodeJS.ProcessEnv} env
 * @returns {{ root: string, version: string }}
 */
function findLibtorch(env) {
  const cli = join(ROOT, 'packages/libtorch/dist/cli.js')
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, '--json'], { env, encoding: 'utf8' })
  if (status === 0) return JSON.parse(stdout)
  process.stderr.write(stderr)
  process.exit(1)
}

/**
 * @param {{ source: string, output: string }} project
 * @param {string} libtorch
 * @param {NodeJS.ProcessEnv} env
 */
async function build({ source, output }, libtorch, env) {
  const folder = join(ROOT, 'native', source)
  const ninja = spawnSync('ninja', ['--version']).status === 0 ? ['-G', 'Ninja'] : []
  const options = [
    'CMAKE_BUILD_TYPE=Release',
    `CMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(ROOT, output)}`,
    `CMAKE_JS_INC=${join(ROOT, 'node_modules/node-api-headers/include')}`,
    `LIBTORCH=${libtorch}`,
  ]
  await quietly(
    'cmake',
    ['-S', join(ROOT, source), '-B', folder, ...ninja, ...options.map((it) => `-D${it}`)],
    env,
  )
  await quietly('cmake', ['--build', folder, '--parallel', String(availableParallelism())], env)
}

/**
 * Runs a tool whose output matters only when it fails.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} env
 */
async function quietly(command, args, env) {
  const child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  /** @type {Buffer[]} */
  const output = []
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => output.push(chunk))
  const exitCode = await ended(child)
  if (exitCode === 0) return
  process.stderr.write(Buffer.concat(output))
  process.exit(exitCode)
}

/**
 * Runs a program of the bundle and returns its exit code.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {string} [copy] a file that gets what is written to stdout, too
 */
async function run(command, args, env, copy) {
  const child = spawn(command, args, { env, stdio: ['inherit', copy ? 'pipe' : 'inherit', 'inherit'] })
  if (child.stdout && copy) {
    child.stdout.pipe(createWriteStream(copy))
    child.stdout.pipe(process.stdout)
  }
  return await ended(child)
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @returns {Promise<number>}
 */
function ended(child) {
  return new Promise((done) => {
    child.once('error', (error) => {
      say(error.message)
      done(127)
    })
    child.once('close', (code) => done(code ?? 1))
  })
}

/** @param {string} line */
function say(line) {
  process.stderr.write(`${line}\n`)
}

process.exitCode = await main()
