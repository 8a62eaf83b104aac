#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// Stands for `python3 -m pip download …`: takes the wheel from FAKE_WHEELS, or fails as FAKE_PIP says, in pip's own words. Every call
// adds a line to FAKE_LOG.
import { appendFileSync, copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const { FAKE_PIP = 'works', FAKE_WHEELS = '', FAKE_LOG = '' } = process.env
const args = process.argv.slice(2)
const option = (name) => args[args.indexOf(name) + 1]
appendFileSync(
  FAKE_LOG,
  `${JSON.stringify({ args, temporary: process.env.TMPDIR, constraint: process.env.PIP_CONSTRAINT, virtualenv: process.env.PIP_REQUIRE_VIRTUALENV })}\n`,
)

const retrying = (what) =>
  `WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by '${what}': /simple/demo/`
const unsatisfied = (versions) =>
  `ERROR: Could not find a version that satisfies the requirement demo==1.0 (from versions: ${versions})\nERROR: No matching distribution found for demo==1.0`
const FAILURES = {
  'no pip': `${process.argv[1]}: No module named pip`,
  offline: `${retrying("NewConnectionError('<…>: Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')")}\n${unsatisfied('none')}`,
  'broken off':
    "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='index', port=443): Read timed out.\nERROR: ReadTimeout",
  certificate: `${retrying("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))")}\n${unsatisfied('none')}`,
  'no version': unsatisfied('0.8, 0.9'),
  'no version after a retry': `${retrying('ConnectionResetError')}\n${unsatisfied('0.8, 0.9')}`,
  'no project': unsatisfied('none'),
  hash: 'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update the hashes.',
  'disk full':
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device: '/x'",
  other: 'Traceback (most recent call last):\n  …\nValueError: bad option',
}

if (FAKE_PIP === 'hangs') {
  writeFileSync(join(process.env.TMPDIR, 'half.whl'), 'half')
  await sleep(2 ** 30)
} else if (FAKE_PIP === 'works' || FAKE_PIP === 'waits') {
  while (FAKE_PIP === 'waits' && !existsSync(join(FAKE_WHEELS, 'go'))) await sleep(10)
  const [project, version] = readFileSync(option('--requirement'), 'utf8').split(/==| /)
  const wheel = readdirSync(FAKE_WHEELS).find((name) => name.startsWith(`${project}-${version}-`))
  copyFileSync(join(FAKE_WHEELS, wheel), join(option('--dest'), wheel))
} else {
  process.stderr.write(`${FAILURES[FAKE_PIP]}\n`)
  process.exitCode = 1
}
