// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { packGpuBundle } from './gpu-bundle.mjs'
import { runTests } from './test-run.mjs'
import { onTerminal, quietly, ROOT, toolEnv } from './tools.mjs'
import { prepare, say, turbo } from './workspace.mjs'

/**
 * Runs one of the commands and returns the exit code.
 *
 * @param {string} command
 * @param {readonly string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<number>}
 */
export async function run(command, args, env = process.env) {
  await prepare({ kernels: ['test', 'build', 'gpu-bundle'].includes(command) })
  switch (command) {
    case 'demo':
      return await onTerminal(process.execPath, [join(ROOT, 'packages/cli/bin/vllm-ops.js'), 'demo', ...args])
    case 'bench':
      // npm starts scripts in the clone; relative paths of the user's mean where they called it.
      return await onTerminal(process.execPath, [entryOf('bench'), ...args], {
        cwd: env.INIT_CWD ?? process.cwd(),
      })
    case 'check':
      return await onTerminal(process.execPath, [entryOf('checks'), ...args])
    case 'gpu-bundle':
      return packGpuBundle(args)
    case 'test':
      return await runTests(args, lint)
    case 'lint':
      await lint()
      return 0
    default:
      return 0
  }
}

/** All checks that are not tests; throws `ToolFailed`. */
async function lint() {
  say('Checking types, style and packages')
  const env = toolEnv()
  const tool = (/** @type {string} */ name) => join(ROOT, 'node_modules/.bin', name)
  await turbo('lint', [], 'Linting')
  await quietly(tool('biome'), ['check', 'scripts'], 'Linting the scripts', env)
  await quietly(tool('tsc'), ['--project', 'scripts'], 'Checking the types of the scripts', env)
  await quietly(process.execPath, [join(ROOT, 'scripts/clang-format.mjs')], 'Linting the native code', env)
}

/**
 * The program that a workspace package is.
 *
 * @param {string} folder
 */
function entryOf(folder) {
  const { main } = JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'))
  return join(ROOT, folder, main)
}
