// SPDX-License-Identifier: Apache-2.0
// The built command, as CMake calls it.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { World } from './support/world'

const CLI = fileURLToPath(new URL('../dist/cli.js', import.meta.url))

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => world[Symbol.dispose]())

function run(args: string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, [CLI, ...args], {
    env: { ...world.env('offline'), XDG_CACHE_HOME: world.parent, ...env },
    encoding: 'utf8',
  })
}

test('nothing found: the error and its fix on stderr, nothing on stdout, exit code 1', () => {
  const { status, stdout, stderr } = run(['--json'])
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^E_TORCH_NOT_FOUND: .*\n.*npx vllm-ops setup\n$/)
  expect(world.calls()).toEqual([])
})

test('setup without a network', () => {
  const { status, stdout, stderr } = run(['setup'])
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr).toMatch(/^Downloading torch-.*\nE_NETWORK: .*\n.*\n$/)
  expect(world.files()).toEqual([])
})

test('anything else: usage, exit code 2', () => {
  expect(run(['remove'])).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('usage:') })
  expect(run(['--yaml'])).toMatchObject({ status: 2, stdout: '', stderr: expect.stringContaining('usage:') })
})
