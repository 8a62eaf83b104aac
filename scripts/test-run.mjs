// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { onTerminal, ROOT, ToolFailed } from './tools.mjs'

/**
 * Runs the tests of all packages and of these scripts, then the checks, and closes with one line that sums them up. With arguments
 * (vitest's own: a path, `-t NAME`) only the tests that they choose run, and no checks.
 *
 * @param {readonly string[]} args
 * @param {() => Promise<void>} check
 * @returns {Promise<number>} the exit code
 */
export async function runTests(args, check) {
  const report = join(ROOT, '.cache', `tests-${process.pid}.json`)
  mkdirSync(join(ROOT, '.cache'), { recursive: true })
  const vitest = join(ROOT, 'node_modules/vitest/vitest.mjs')
  const config = join(ROOT, 'scripts/all-tests.config.ts')
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const exitCode = await onTerminal(process.execPath, [
    vitest,
    'run',
    '--config',
    config,
    ...reporters,
    ...args,
  ])
  const counts = countTests(readReport(report), exitCode)
  if (args.length === 0) {
    try {
      await check()
      counts.passed++
    } catch (error) {
      if (!(error instanceof ToolFailed)) throw error
      process.stderr.write(`${error.message}\n`)
      counts.failed++
    }
  }
  process.stdout.write(`${counts.passed} passed, ${counts.failed} failed\n`)
  return counts.failed > 0 ? exitCode || 1 : 0
}

/**
 * The part of vitest's JSON report that is read.
 *
 * @typedef {{ numPassedTests: number, numFailedTests: number,
 *   testResults: { status: string, assertionResults: unknown[] }[] }} Report
 */

/**
 * Sums a report up. A file that can't be loaded has no tests and counts as one failed; so does a run that failed without a failed
 * test, such as one with an unhandled error or one that was killed before it wrote a report.
 *
 * @param {Report | undefined} report
 * @param {number} exitCode
 */
export function countTests(report, exitCode) {
  const passed = report?.numPassedTests ?? 0
  const broken = report?.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.length,
  )
  const failed = (report?.numFailedTests ?? 0) + (broken?.length ?? 0)
  return { passed, failed: failed || (exitCode === 0 ? 0 : 1) }
}

/**
 * @param {string} path
 * @returns {Report | undefined}
 */
function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  } finally {
    rmSync(path, { force: true })
  }
}
