// SPDX-License-Identifier: Apache-2.0
// Brings a clone to the state in which everything is installed, fetched and built, doing only what is missing.
import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { cacheRoot } from '../packages/libtorch/src/cache-root.mjs'
import { withLock } from '../packages/libtorch/src/lock-file.mjs'
import { checkBuild } from './prerequisites.mjs'
import { readText, resultStamp, sourceStamp, writeText } from './stamp.mjs'
import { onTerminal, pnpm, ROOT, ToolFailed } from './tools.mjs'

const STATE = join(ROOT, '.cache')
const BUILT = join(STATE, 'built')

/**
 * Returns when everything is built; throws `ToolFailed` when it can't be. Without `kernels` the CUDA kernels are left out, and the
 * compiler that they need is not fetched.
 *
 * @param {{ kernels?: boolean }} [options]
 */
export async function prepare({ kernels = true } = {}) {
  if (await isBuilt(kernels)) return
  const onWait = () => say('Waiting for another run to finish building')
  await withLock(
    join(STATE, 'lock'),
    async () => {
      if (!(await isBuilt(kernels))) await build(kernels)
    },
    { onWait },
  )
}

/**
 * What is written after a build: what it read, what it wrote, the libtorch that it was built against, and whether it built the CUDA
 * kernels.
 *
 * @typedef {{ sources: string, results: string, libtorch: string, kernels: boolean }} Stamp
 */

/**
 * Whether nothing changed since the last complete build.
 *
 * @param {boolean} wanted whether the CUDA kernels are needed
 */
async function isBuilt(wanted) {
  const text = readText(BUILT)
  if (text === undefined || !isInstalled()) return false
  /** @type {Stamp} */
  const { sources, results, libtorch, kernels } = JSON.parse(text)
  if (wanted && !kernels) return false
  // In this order: a killed build may have left a libtorch package that can't be loaded.
  return (
    sources === sourceStamp(ROOT) && results === resultStamp(ROOT) && libtorch === (await currentLibtorch())
  )
}

/** @param {boolean} kernels */
async function build(kernels) {
  const problems = checkBuild()
  for (const { message, fix } of problems) process.stderr.write(`${message}\n${fix}\n`)
  if (problems.length > 0) throw new ToolFailed('', 1)
  if (!isInstalled()) {
    say('Installing the npm packages')
    await pnpm(['install', '--frozen-lockfile', ...storeDir()], 'Installing the npm packages')
  }
  // CMake asks this package where libtorch is, so it comes first.
  await turbo('build', ['--filter', '@vllm-ops/libtorch'], 'Building @vllm-ops/libtorch')
  await fetchFiles([])
  if (kernels) await fetchFiles(['--cuda-toolkit'])
  // Taken before: a source that changes while it is built is built again next time.
  const sources = sourceStamp(ROOT)
  say('Building (the first build takes some minutes)')
  await turbo('build', kernels ? ['build:kernels'] : [], 'The build')
  /** @type {Stamp} */
  const stamp = { sources, results: resultStamp(ROOT), libtorch: await currentLibtorch(), kernels }
  writeText(BUILT, JSON.stringify(stamp))
}

/**
 * @param {'build' | 'lint'} task
 * @param {readonly string[]} args
 * @param {string} what
 */
export function turbo(task, args, what) {
  // Loose: the tools that tasks start need the variables of `toolEnv` too; what counts for the cache is in turbo.json.
  const options = ['--env-mode=loose', '--output-logs=errors-only', '--log-order=grouped']
  return pnpm(['exec', 'turbo', 'run', task, ...options, ...args], what)
}

/** pnpm keeps the lockfile that it installed from, and writes its state when it is through. */
function isInstalled() {
  const modules = join(ROOT, 'node_modules')
  const [wanted, installed] = [join(ROOT, 'pnpm-lock.yaml'), join(modules, '.pnpm/lock.yaml')].map(readText)
  return wanted === installed && existsSync(join(modules, '.modules.yaml'))
}

/** The store is in the cache folder, unless these node_modules were installed from another one by hand. */
function storeDir() {
  const state = readText(join(ROOT, 'node_modules/.modules.yaml'))
  return state ? [] : ['--store-dir', join(cacheRoot(), 'pnpm/store')]
}

/**
 * Fetches libtorch, or with `--cuda-toolkit` a CUDA compiler where there is none.
 *
 * @param {readonly string[]} options
 */
async function fetchFiles(options) {
  const cli = join(ROOT, 'packages/libtorch/dist/cli.js')
  const exitCode = await onTerminal(process.execPath, [cli, 'setup', ...options], { stdout: 'ignore' })
  if (exitCode !== 0) throw new ToolFailed('', exitCode)
}

/** The libtorch in use, as text; nothing where there is none. */
async function currentLibtorch() {
  const module = join(ROOT, 'packages/libtorch/dist/index.js')
  /** @type {typeof import('../packages/libtorch/src/index')} */
  // The time makes it another module after it was built again.
  const { findLibtorch, LibtorchError } = await import(
    `${pathToFileURL(module).href}?${statSync(module).mtimeMs}`
  )
  try {
    return JSON.stringify(findLibtorch())
  } catch (error) {
    if (error instanceof LibtorchError) return ''
    throw error
  }
}

/** @param {string} line */
export function say(line) {
  process.stderr.write(`${line}\n`)
}
