// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { checkBuild, checkNode, checkPlatform } from '../prerequisites.mjs'

/** A machine that has everything: what each tool does when it is called. */
const TOOLS = {
  'c++': 'exit 0',
  make: 'exit 0',
  cmake: 'echo "cmake version 3.22.1"',
  python3: 'exit 0',
}

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'scripts-test-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

/** The problems of a machine with these tools and no others. */
function problems(tools: Readonly<Record<string, string>>, env: NodeJS.ProcessEnv = {}) {
  const bin = join(root, 'bin')
  mkdirSync(bin)
  for (const [name, body] of Object.entries(tools))
    writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`, { mode: 0o755 })
  return checkBuild({ PATH: bin, XDG_CACHE_HOME: join(root, 'cache'), ...env })
}

function without(...names: (keyof typeof TOOLS)[]) {
  return Object.fromEntries(Object.entries(TOOLS).filter(([name]) => !names.some((it) => it === name)))
}

test('a machine that has everything', () => {
  expect(problems(TOOLS)).toEqual([])
})

test.for([
  ['a compiler', without('c++'), /^No C\+\+ compiler/],
  ['C++20', { ...TOOLS, 'c++': 'exit 1' }, /^The C\+\+ compiler c\+\+ can't compile C\+\+20/],
  ['a build tool', without('make'), /^Neither make nor ninja/],
  ['CMake', without('cmake'), /^CMake was not found/],
  [
    'a CMake that is new enough',
    { ...TOOLS, cmake: 'echo "cmake version 3.21.4"' },
    /^CMake 3.22 or newer .* 3.21.4/,
  ],
  ['Python', without('python3'), /^Python was not found/],
  ['pip', { ...TOOLS, python3: 'exit 1' }, /^python3 has no pip/],
] as const)('a machine without %s is told so in one sentence, with what mends it', ([, tools, message]) => {
  expect(problems(tools)).toEqual([
    { message: expect.stringMatching(message), fix: expect.stringMatching(/\w/) },
  ])
})

test('everything that is missing is told at once', () => {
  expect(problems({})).toHaveLength(4)
})

test('ninja will do, and so does the compiler that CXX names', () => {
  expect(problems({ ...without('make', 'c++'), ninja: 'exit 0', mine: 'exit 0' }, { CXX: 'mine' })).toEqual(
    [],
  )
})

test('pip is not needed once libtorch is there', () => {
  mkdirSync(join(root, 'cache/vllm-ops/libtorch/2.13.0-linux-x64'), { recursive: true })
  expect(problems(without('python3'))).toEqual([])
})

test('nor is it for a libtorch that is named', () => {
  expect(problems(without('python3'), { LIBTORCH: '/somewhere' })).toEqual([])
})

test.for(['18.20.0', '20.16.0'])('Node %s is too old', (version) => {
  expect(checkNode(version)?.message).toBe(`Node.js 20.17 or newer is needed, and this is ${version}.`)
})

test.for(['20.17.0', '22.0.0'])('Node %s is new enough', (version) => {
  expect(checkNode(version)).toBeUndefined()
})

test('other systems are told that they are not supported', () => {
  expect(checkPlatform('linux', 'x64')).toBeUndefined()
  expect(checkPlatform('darwin', 'arm64')?.message).toMatch(/this is darwin on arm64/)
})
