// SPDX-License-Identifier: Apache-2.0
// What a machine must have before anything can be built: each check says in one sentence what is missing and what mends it.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { cacheRoot } from '../packages/libtorch/src/cache-root.mjs'
import { installCommand } from '../packages/libtorch/src/host-packages.mjs'

/** @typedef {{ message: string, fix: string }} Problem */

const NODE = [20, 17]
const CMAKE = [3, 22]
/** Compiles only with a C++20 standard library: the tools that the native code is written with. */
const CXX20 =
  '#include <concepts>\n#include <span>\nstatic_assert(std::integral<int>);\nint first(std::span<int> s) { return s[0]; }\n'

/** @type {(problem: string, what: 'pip' | 'cxx' | 'cmake', otherwise: string) => Problem} */
const missing = (message, what, otherwise) => ({ message, fix: installCommand(what) ?? otherwise })

/**
 * This Node can run the project.
 *
 * @returns {Problem | undefined}
 */
export function checkNode(version = process.versions.node) {
  if (atLeast(version, NODE)) return undefined
  return {
    message: `Node.js ${NODE.join('.')} or newer is needed, and this is ${version}.`,
    fix: `npx -y node@${NODE[0]} scripts/run.mjs ${process.argv.slice(2).join(' ')}`.trim(),
  }
}

/**
 * All that building needs.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Problem[]}
 */
export function checkBuild(env = process.env) {
  return [checkPlatform(), checkCxx(env), checkMake(env), checkCMake(env), checkPip(env)].filter(
    (it) => it !== undefined,
  )
}

/** @returns {Problem | undefined} */
export function checkPlatform(platform = process.platform, arch = process.arch) {
  if (platform === 'linux' && arch === 'x64') return undefined
  return {
    message: `vllm-ops runs on Linux on x86-64, and this is ${platform} on ${arch}.`,
    fix: 'Run it in a Linux container or virtual machine for x86-64.',
  }
}

/** @param {NodeJS.ProcessEnv} env */
function checkCxx(env) {
  const compilers = env.CXX ? [env.CXX] : ['c++', 'g++', 'clang++']
  const args = ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-']
  const runs = compilers.map((name) => ({
    name,
    run: spawnSync(name, args, { env, encoding: 'utf8', input: CXX20 }),
  }))
  const there = runs.find(({ run }) => !cannotStart(run))
  if (there?.run.status === 0) return undefined
  if (!there)
    return missing(`No C++ compiler was found (${compilers.join(', ')}).`, 'cxx', 'Install GCC 11 or newer.')
  return {
    message: `The C++ compiler ${there.name} can't compile C++20.`,
    fix: 'Install GCC 11 or newer and name it: export CXX=g++-12',
  }
}

/** @param {NodeJS.ProcessEnv} env */
function checkMake(env) {
  if (['ninja', 'make'].some((name) => !cannotStart(spawnSync(name, ['--version'], { env }))))
    return undefined
  return missing('Neither make nor ninja was found, and CMake needs one of them.', 'cxx', 'Install make.')
}

/** @param {NodeJS.ProcessEnv} env */
function checkCMake(env) {
  const run = spawnSync('cmake', ['--version'], { env, encoding: 'utf8' })
  if (cannotStart(run)) return missing('CMake was not found.', 'cmake', 'Install CMake.')
  const version = /version ([\d.]+)/.exec(run.stdout)?.[1] ?? '0'
  if (atLeast(version, CMAKE)) return undefined
  return {
    message: `CMake ${CMAKE.join('.')} or newer is needed, and this is ${version}.`,
    fix: 'python3 -m pip install --user --upgrade cmake',
  }
}

/**
 * pip fetches libtorch; it is not needed any more once that is there.
 *
 * @param {NodeJS.ProcessEnv} env
 */
function checkPip(env) {
  if (env.LIBTORCH || env.VLLM_OPS_TORCH || libtorchIsCached(env)) return undefined
  const python = env.PYTHON || 'python3'
  const run = spawnSync(python, ['-m', 'pip', '--version'], { env })
  if (cannotStart(run))
    return missing(
      `Python was not found (${python}); its pip fetches libtorch.`,
      'pip',
      'Install Python 3 with pip.',
    )
  if (run.status === 0) return undefined
  return missing(`${python} has no pip, which fetches libtorch.`, 'pip', `${python} -m ensurepip`)
}

/**
 * Whether a program isn't there, or isn't one. (Other errors are no reason: one that ends before it has read its input gives EPIPE.)
 *
 * @param {{ error?: NodeJS.ErrnoException | undefined }} run
 */
function cannotStart({ error }) {
  return error?.code === 'ENOENT' || error?.code === 'EACCES'
}

/** @param {NodeJS.ProcessEnv} env */
function libtorchIsCached(env) {
  const folder = join(cacheRoot(env), 'libtorch')
  return existsSync(folder) && readdirSync(folder).some((name) => !name.startsWith('.'))
}

/**
 * @param {string} version
 * @param {readonly number[]} oldest
 */
function atLeast(version, oldest) {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor = 0, oldestMinor = 0] = oldest
  return major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)
}
