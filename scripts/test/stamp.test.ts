// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { resultStamp, sourceStamp } from '../stamp.mjs'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'scripts-test-'))
  for (const path of [
    'pnpm-lock.yaml',
    'packages/a/src/x.ts',
    'packages/a/dist/x.js',
    'packages/a/build/Release/x.node',
  ])
    put(path)
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function put(path: string, text = ''): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text)
}

const stamps = (env = {}) => ({ sources: sourceStamp(root, env), results: resultStamp(root) })

/** Which of the stamps `change` changes. */
function changed(change: () => void, env = {}): string[] {
  const before = stamps()
  change()
  const after = stamps(env)
  return (['sources', 'results'] as const).filter((name) => before[name] !== after[name])
}

test.for(['pnpm-lock.yaml', 'packages/a/src/x.ts', 'packages/a/src/new.ts', 'csrc-common/include/x.h'])(
  '%s is a source',
  (path) => {
    expect(changed(() => put(path, 'changed'))).toEqual(['sources'])
  },
)

test.for(['packages/a/dist/x.js', 'packages/a/build/Release/x.node', 'packages/b/dist/new.js'])(
  '%s is a result',
  (path) => {
    expect(changed(() => put(path, 'changed'))).toEqual(['results'])
  },
)

test.for([
  'packages/a/test/x.test.ts',
  'node_modules/x/index.js',
  'packages/a/.turbo/log',
  '.cache/x',
  'docs/x.md',
  'packages/a/build/CMakeFiles/x.o',
])('%s is neither', (path) => {
  expect(changed(() => put(path, 'changed'))).toEqual([])
})

test('a removed source, a removed result, and a source of the same size written later', () => {
  expect(changed(() => rmSync(join(root, 'packages/a/src/x.ts')))).toEqual(['sources'])
  expect(changed(() => rmSync(join(root, 'packages/a/dist/x.js')))).toEqual(['results'])
  expect(changed(() => utimesSync(join(root, 'pnpm-lock.yaml'), 1, 1))).toEqual(['sources'])
})

test('the compiler and the libtorch that the environment names count as sources', () => {
  for (const env of [{ CXX: 'clang++' }, { LIBTORCH: '/torch' }])
    expect(changed(() => {}, env)).toEqual(['sources'])
})
