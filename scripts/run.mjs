// SPDX-License-Identifier: Apache-2.0
// The commands of this repository, from a fresh clone: `node scripts/run.mjs COMMAND [ARGUMENT…]`, which is what `npm run demo`,
// `npm test` and their like call. Each installs, fetches and builds what is missing first. Talk goes to stderr.
import { checkNode } from './prerequisites.mjs'

const COMMANDS = ['demo', 'test', 'bench', 'check', 'build', 'lint', 'gpu-bundle']

async function main() {
  const [command = '', ...args] = process.argv.slice(2)
  const problem = checkNode()
  if (problem) return fail(`${problem.message}\n${problem.fix}`, 1)
  if (!COMMANDS.includes(command))
    return fail(`usage: node scripts/run.mjs ${COMMANDS.join('|')} [argument…]`, 2)
  // Only now: older versions of Node may not even parse what these import.
  const { ToolFailed } = await import('./tools.mjs')
  const { run } = await import('./commands.mjs')
  try {
    process.exitCode = await run(command, args)
  } catch (error) {
    if (!(error instanceof ToolFailed)) throw error
    fail(error.message, error.exitCode)
  }
}

/**
 * @param {string} message
 * @param {number} exitCode
 */
function fail(message, exitCode) {
  if (message) process.stderr.write(`${message}\n`)
  process.exitCode = exitCode
}

await main()
