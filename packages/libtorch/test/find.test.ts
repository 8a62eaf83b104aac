// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { cacheRoot, findLibtorch, setupLibtorch, TORCH_VERSION } from '../src'
import { cachedTorch } from '../src/find'
import { MARKER, markerText } from '../src/marker'
import { torchLock } from '../src/torch-lock'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'libtorch-test-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function put(path: string, text = ''): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text, { mode: 0o755 })
}

/** Something that looks like a libtorch of this version; where the version is written changed with 2.9. */
function putTorch(version: string, header = 'torch/headeronly/version.h', folder = 'torch'): string {
  const numbers = version
    .split('.')
    .map((part, index) => `#define TORCH_VERSION_${['MAJOR', 'MINOR', 'PATCH'][index]} ${part}`)
  for (const name of ['libc10.so', 'libtorch_cpu.so']) put(`${folder}/lib/${name}`)
  put(`${folder}/include/torch/csrc/api/include/torch/version.h`, '#include <torch/headeronly/version.h>')
  put(`${folder}/include/${header}`, numbers.join('\n'))
  return join(root, folder)
}

/** A Python whose torch is at `location` ('' for none). */
function putPython(location: string): NodeJS.ProcessEnv {
  put('python', `#!/bin/sh\nprintf %s '${location}'\n`)
  return { VLLM_OPS_TORCH: 'python', PYTHON: join(root, 'python'), PATH: process.env.PATH }
}

test('LIBTORCH names one', () => {
  const torch = putTorch('2.12.1')
  expect(findLibtorch({ env: { LIBTORCH: torch } })).toEqual({
    version: '2.12.1',
    source: 'LIBTORCH',
    root: torch,
    lib: join(torch, 'lib'),
    include: [join(torch, 'include'), join(torch, 'include/torch/csrc/api/include')],
    libraries: [join(torch, 'lib/libc10.so'), join(torch, 'lib/libtorch_cpu.so')],
  })
})

test('the version may be in the older place', () => {
  const torch = putTorch('2.10.0', 'torch/csrc/api/include/torch/version.h')
  expect(findLibtorch({ env: { LIBTORCH: torch } }).version).toBe('2.10.0')
})

test.for(['2.9.1', '1.13.0'])('%s is too old', (version) => {
  const error = expect.objectContaining({
    code: 'E_TORCH_VERSION',
    message: expect.stringContaining(version),
  })
  expect(() => findLibtorch({ env: { LIBTORCH: putTorch(version) } })).toThrow(error)
})

test.for(['2.10.0', '3.0.0'])('%s is new enough', (version) => {
  expect(findLibtorch({ env: { LIBTORCH: putTorch(version) } }).version).toBe(version)
})

test('LIBTORCH that names something else is an error, whatever else is there', () => {
  const error = { code: 'E_TORCH_NOT_FOUND', message: expect.stringContaining('lib/libc10.so') }
  expect(() => findLibtorch({ env: { LIBTORCH: root } })).toThrow(expect.objectContaining(error))
})

test('LIBTORCH that names the folder above is told the right one', () => {
  const torch = putTorch('2.13.0')
  const error = { code: 'E_TORCH_NOT_FOUND', fix: expect.stringContaining(`export LIBTORCH=${torch}`) }
  expect(() => findLibtorch({ env: { LIBTORCH: root } })).toThrow(expect.objectContaining(error))
})

test("VLLM_OPS_TORCH=python takes the Python's torch", () => {
  const torch = putTorch('2.15.0', undefined, 'site-packages/torch')
  expect(findLibtorch({ env: putPython(torch) })).toMatchObject({
    source: 'python',
    root: torch,
    version: '2.15.0',
  })
})

test.for([
  ['has no torch', '', 'E_TORCH_NOT_FOUND', 'pip install torch'],
  ['has a torch without libraries', '/nowhere', 'E_TORCH_NOT_FOUND', '--force-reinstall torch'],
] as const)('a Python that %s', ([, location, code, fix]) => {
  const error = expect.objectContaining({ code, fix: expect.stringContaining(fix) })
  expect(() => findLibtorch({ env: putPython(location) })).toThrow(error)
})

test('no Python', () => {
  const env = { VLLM_OPS_TORCH: 'python', PYTHON: join(root, 'nothing') }
  expect(() => findLibtorch({ env })).toThrow(expect.objectContaining({ code: 'E_PYTHON_MISSING' }))
})

test('VLLM_OPS_TORCH has one value only', () => {
  const error = expect.objectContaining({ code: 'E_TORCH_SOURCE', fix: expect.stringContaining('unset') })
  expect(() => findLibtorch({ env: { VLLM_OPS_TORCH: 'Python' } })).toThrow(error)
})

test('an empty cache', () => {
  const error = { code: 'E_TORCH_NOT_FOUND', fix: expect.stringContaining('npx vllm-ops setup') }
  expect(() => findLibtorch({ env: { XDG_CACHE_HOME: root } })).toThrow(expect.objectContaining(error))
})

test('the cache counts when it is complete and of this lock', () => {
  const env = { XDG_CACHE_HOME: root }
  const folder = cachedTorch(env)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, MARKER), markerText(torchLock().slice(1)))
  expect(() => findLibtorch({ env })).toThrow(expect.objectContaining({ code: 'E_TORCH_NOT_FOUND' }))
  writeFileSync(join(folder, MARKER), markerText(torchLock()))
  expect(findLibtorch({ env })).toMatchObject({
    source: 'cache',
    version: TORCH_VERSION,
    root: join(folder, 'torch'),
  })
})

test('a libtorch that is named is never fetched', async () => {
  const torch = putTorch('2.14.1')
  const env = { XDG_CACHE_HOME: join(root, 'cache'), PYTHON: '/nowhere' }
  await expect(setupLibtorch({ env: { ...env, LIBTORCH: torch } })).resolves.toMatchObject({ root: torch })
  await expect(setupLibtorch({ env: { ...env, LIBTORCH: root } })).rejects.toMatchObject({
    code: 'E_TORCH_NOT_FOUND',
  })
  await expect(setupLibtorch({ env })).rejects.toMatchObject({ code: 'E_PYTHON_MISSING' })
})

test('the cache folder follows the XDG specification', () => {
  expect(cacheRoot({ XDG_CACHE_HOME: '/caches', HOME: '/home/me' })).toBe('/caches/vllm-ops')
  expect(cacheRoot({ XDG_CACHE_HOME: '', HOME: '/home/me' })).toBe('/home/me/.cache/vllm-ops')
  expect(cacheRoot({ XDG_CACHE_HOME: 'relative', HOME: '/home/me' })).toBe('/home/me/.cache/vllm-ops')
})
