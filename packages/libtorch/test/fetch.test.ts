// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type FetchProgress, fetchWheelFiles, type WheelLock } from '../src'
import { bytes, fileLock, treeLock, World } from './support/world'

const WHEEL = 'demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl'
const CONTENT = {
  'demo/lib/a.so': bytes('library'),
  'demo/lib/unwanted.so': bytes('not kept'),
  'demo/include/x.h': bytes('// x'),
  'demo/include/deep/y.h': bytes('// y'),
}
const HEADERS = { 'demo/include/x.h': '// x', 'demo/include/deep/y.h': '// y' }
const KEPT = {
  files: [fileLock('demo/lib/a.so', 'library')],
  trees: [treeLock('demo/include/', HEADERS)],
}

let world: World
let lock: WheelLock
beforeEach(() => {
  world = new World()
  lock = world.publish(WHEEL, CONTENT, KEPT)
})
afterEach(() => world[Symbol.dispose]())

const fetch = (spec: WheelLock | WheelLock[] = lock, env = world.env()) =>
  fetchWheelFiles(spec, world.destination, { env })

test('makes a folder with the listed files, and leaves nothing beside it', async () => {
  expect(await fetch()).toBe(world.destination)
  expect(world.files()).toEqual(
    ['demo/.vllm-ops.json', ...Object.keys(HEADERS), 'demo/lib/a.so']
      .map((path) => (path.startsWith('demo/.') ? path : `demo/${path}`))
      .sort(),
  )
  expect(readFileSync(join(world.destination, 'demo/lib/a.so'), 'utf8')).toBe('library')
})

test('asks pip for the pinned wheel, whatever Python runs it, and keeps what it writes inside the parent folder', async () => {
  await fetch()
  const [call] = world.calls()
  const words = call?.args.join(' ')
  expect(words).toMatch(/^-m pip .*\bdownload .*--no-deps --no-cache-dir/)
  expect(words).toContain(
    '--only-binary :all: --implementation cp --python-version 3.12 --abi cp312 --platform manylinux_2_28_x86_64',
  )
  expect(call?.temporary).toMatch(`${world.parent}/.demo.tmp-`)
})

test('what the user has set for installing packages does not stop pip', async () => {
  await fetch(lock, {
    ...world.env(),
    PIP_CONSTRAINT: '/etc/pip/constraint.txt',
    PIP_REQUIRE_VIRTUALENV: '1',
  })
  expect(world.calls()).toEqual([expect.objectContaining({ constraint: '', virtualenv: '0' })])
})

test('asks for a wheel that fits every Python by its platform alone', async () => {
  const name = 'demo-1.0-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl'
  await fetch(world.publish(name, CONTENT, KEPT))
  expect(world.calls()[0]?.args.join(' ')).toContain(
    '--only-binary :all: --platform manylinux2014_x86_64 --dest',
  )
})

test('asks for a wheel that fits every Python and platform by neither', async () => {
  await fetch(world.publish('demo-1.0-py3-none-any.whl', CONTENT, KEPT))
  expect(world.calls()[0]?.args.join(' ')).toContain('--only-binary :all: --dest')
})

test('a complete folder is returned without pip', async () => {
  await fetch()
  await fetch()
  expect(world.calls()).toHaveLength(1)
})

test('several wheels share one folder, and a file may go elsewhere in it', async () => {
  const other = world.publish(
    'other-2-py3-none-any.whl',
    { 'other/m.gguf': bytes('model') },
    {
      files: [fileLock('other/m.gguf', 'model', 'm.gguf')],
    },
  )
  await fetch([lock, other])
  expect(world.files()).toContain('demo/m.gguf')
  expect(world.files()).toContain('demo/demo/lib/a.so')
})

test('reports every step of every wheel up to its end', async () => {
  const seen: FetchProgress[] = []
  await fetchWheelFiles(lock, world.destination, { env: world.env(), onProgress: (step) => seen.push(step) })
  expect([...new Set(seen.map(({ step }) => step))]).toEqual(['download', 'verify', 'extract'])
  for (const step of ['download', 'verify', 'extract'])
    expect(seen.findLast((it) => it.step === step)).toMatchObject({
      file: WHEEL,
      done: seen.find((it) => it.step === step)?.total,
    })
})

test('a folder made from another lock is replaced', async () => {
  await fetch()
  const newer = world.publish(
    WHEEL,
    { 'demo/lib/a.so': bytes('newer') },
    { files: [fileLock('demo/lib/a.so', 'newer')] },
  )
  await fetch(newer)
  expect(world.files()).toEqual(['demo/.vllm-ops.json', 'demo/demo/lib/a.so'])
  expect(readFileSync(join(world.destination, 'demo/lib/a.so'), 'utf8')).toBe('newer')
})

test('what is not ours at the destination is left alone', async () => {
  mkdirSync(world.destination)
  writeFileSync(join(world.destination, 'mine.txt'), 'mine')
  await expect(fetch()).rejects.toMatchObject({ code: 'E_DESTINATION' })
  expect(world.files()).toEqual(['demo/mine.txt'])
  expect(world.calls()).toHaveLength(0)
})

test('an empty folder at the destination is filled', async () => {
  mkdirSync(world.destination)
  await fetch()
  expect(world.files()).toContain('demo/demo/lib/a.so')
})

test.for([
  ['no pip', 'E_PIP_MISSING', /has no pip/],
  ['offline', 'E_NETWORK', /can't be reached/],
  ['broken off', 'E_NETWORK', /can't be reached/],
  ['certificate', 'E_NETWORK', /certificate/],
  ['no version', 'E_WHEEL_NOT_FOUND', /has no demo-1.0/],
  ['no version after a retry', 'E_WHEEL_NOT_FOUND', /has no demo-1.0/],
  ['no project', 'E_WHEEL_NOT_FOUND', /has no demo-1.0/],
  ['hash', 'E_HASH_MISMATCH', /other bytes/],
  ['disk full', 'E_DISK_FULL', /disk ran full/],
  ['other', 'E_PIP_FAILED', /ValueError: bad option/],
] as const)('pip fails with %s: %s', async ([pip, code, message]) => {
  const error = await fetch(lock, world.env(pip)).then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toMatchObject({
    code,
    message: expect.stringMatching(message),
    fix: expect.stringMatching(/\w/),
  })
  expect(world.files()).toEqual([])
})

test('without Python: E_PYTHON_MISSING', async () => {
  const env = { ...world.env(), PYTHON: '/nowhere/python3' }
  await expect(fetch(lock, env)).rejects.toMatchObject({
    code: 'E_PYTHON_MISSING',
    fix: expect.stringContaining('unset PYTHON'),
  })
})

test('a parent that is no folder: E_CACHE', async () => {
  writeFileSync(world.destination, 'a file')
  const below = join(world.destination, 'folder', 'demo')
  await expect(fetchWheelFiles(lock, below, { env: world.env() })).rejects.toMatchObject({ code: 'E_CACHE' })
})

test('a parent that the system refuses to make: E_CACHE', async () => {
  const below = '/proc/no-such-folder/cache/demo'
  await expect(fetchWheelFiles(lock, below, { env: world.env() })).rejects.toMatchObject({ code: 'E_CACHE' })
})

test('an abort ends pip and removes what is there so far', async () => {
  const aborter = new AbortController()
  const fetching = fetchWheelFiles(lock, world.destination, {
    env: world.env('hangs'),
    signal: aborter.signal,
    onProgress: ({ done }) => done > 0 && aborter.abort(new Error('enough')),
  })
  await expect(fetching).rejects.toThrow('enough')
  expect(world.files()).toEqual([])
})
