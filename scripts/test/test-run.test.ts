// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest'
import { countTests } from '../test-run.mjs'

const passing = { status: 'passed', assertionResults: [{}, {}] }
const broken = { status: 'failed', assertionResults: [] }

test.for([
  ['all pass', { numPassedTests: 2, numFailedTests: 0, testResults: [passing] }, 0, { passed: 2, failed: 0 }],
  [
    'one fails',
    { numPassedTests: 1, numFailedTests: 1, testResults: [{ ...passing, status: 'failed' }] },
    1,
    { passed: 1, failed: 1 },
  ],
  [
    'a file does not load',
    { numPassedTests: 2, numFailedTests: 0, testResults: [passing, broken] },
    1,
    { passed: 2, failed: 1 },
  ],
  [
    'an error belongs to no test',
    { numPassedTests: 2, numFailedTests: 0, testResults: [passing] },
    1,
    { passed: 2, failed: 1 },
  ],
  ['the run was killed', undefined, 137, { passed: 0, failed: 1 }],
] as const)('%s', ([, report, exitCode, counts]) => {
  const copy = report && {
    ...report,
    testResults: report.testResults.map((it) => ({ ...it, assertionResults: [...it.assertionResults] })),
  }
  expect(countTests(copy, exitCode)).toEqual(counts)
})
