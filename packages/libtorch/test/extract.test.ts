// SPDX-License-Identifier: Apache-2.0

import { zipSync } from 'fflate'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fetchWheelFiles, type LibtorchErrorCode, type WheelLock } from '../src'
import { bytes, fileLock, treeLock, World } from './support/world'

const WHEEL = 'demo-1.0-py3-none-any.whl'
const FILES = [fileLock('demo/a.txt', 'text')]

let world: World
beforeEach(() => {
  world = new World()
})
afterEach(() => world[Symbol.dispose]())

async function refuses(lock: WheelLock, code: LibtorchErrorCode, message: RegExp) {
  const fetching = fetchWheelFiles(lock, world.destination, { env: world.env() })
  await expect(fetching).rejects.toMatchObject({ code, message: expect.stringMatching(message) })
  expect(world.files()).toEqual([])
}

/** The archive with every occurrence of one text of bytes replaced by another of the same length. */
function patched(archive: Uint8Array, from: string | Uint8Array, to: string | Uint8Array): Uint8Array {
  const replaced = Buffer.from(archive)
    .toString('latin1')
    .replaceAll(latin1(from), () => latin1(to))
  expect(replaced).toHaveLength(archive.length)
  return new Uint8Array(Buffer.from(replaced, 'latin1'))
}

function latin1(text: string | Uint8Array): string {
  return Buffer.from(text).toString('latin1')
}

function uint32(value: number): Uint8Array {
  const buffer = Buffer.alloc(4)
  buffer.writeUInt32LE(value)
  return buffer
}

test('a wheel of another size than the lock says', async () => {
  const lock = world.publish(WHEEL, { 'demo/a.txt': bytes('text') }, { files: FILES })
  await refuses({ ...lock, size: lock.size + 1 }, 'E_HASH_MISMATCH', /bytes instead of/)
})

test('a wheel with another hash than the lock says', async () => {
  const lock = world.publish(WHEEL, { 'demo/a.txt': bytes('text') }, { files: FILES })
  await refuses({ ...lock, sha256: 'f'.repeat(64) }, 'E_HASH_MISMATCH', /sha256 .* instead of ffff/)
})

test('a file with another content', async () => {
  await refuses(
    world.publish(WHEEL, { 'demo/a.txt': bytes('tuxt') }, { files: FILES }),
    'E_HASH_MISMATCH',
    /demo\/a.txt/,
  )
})

test('a file with another size', async () => {
  await refuses(
    world.publish(WHEEL, { 'demo/a.txt': bytes('longer') }, { files: FILES }),
    'E_HASH_MISMATCH',
    /6 bytes/,
  )
})

test('a file that is not there', async () => {
  await refuses(
    world.publish(WHEEL, { 'demo/b.txt': bytes('text') }, { files: FILES }),
    'E_WHEEL_INVALID',
    /has no demo\/a.txt/,
  )
})

const TREE = { 'demo/x': 'x', 'demo/y': 'y' }
test.for([
  ['another content', { 'demo/x': 'x', 'demo/y': 'z' }, /sha256/],
  ['another name', { 'demo/x': 'x', 'demo/z': 'y' }, /sha256/],
  ['a file less', { 'demo/x': 'x' }, /1 files/],
  ['an empty file more', { 'demo/x': 'x', 'demo/y': 'y', 'demo/z': '' }, /3 files/],
  ['more bytes', { 'demo/x': 'x', 'demo/y': 'yy' }, /more bytes/],
] as const)('a folder with %s', async ([, files, message]) => {
  const content = Object.fromEntries(Object.entries(files).map(([name, text]) => [name, bytes(text)]))
  const kept = { files: [], trees: [treeLock('demo/', TREE)] }
  await refuses(world.publish(WHEEL, content, kept), 'E_HASH_MISMATCH', message)
})

test.for([
  ['upwards', 'demo/../../../evil'],
  ['absolute', '/tmp/libtorch-test-evil'],
  ['with a backslash', 'demo\\..\\evil'],
] as const)('a name that leads out of the folder: %s', async ([, name]) => {
  const kept = { files: [], trees: [treeLock(name.slice(0, 1), { [name]: 'evil' })] }
  await refuses(
    world.publish(WHEEL, { [name]: bytes('evil') }, kept),
    'E_WHEEL_INVALID',
    /path|characters|name/i,
  )
})

test('a lock that leads out of the folder', async () => {
  const files = [fileLock('demo/a.txt', 'text', '../../evil')]
  await refuses(
    world.publish(WHEEL, { 'demo/a.txt': bytes('text') }, { files }),
    'E_WHEEL_INVALID',
    /leads out/,
  )
})

test('a symbolic link', async () => {
  const link = [bytes('text'), { os: 3, attrs: (0o120777 << 16) >>> 0 }] as const
  const lock = world.publish(WHEEL, { 'demo/a.txt': [link[0], link[1]] }, { files: FILES })
  await refuses(lock, 'E_WHEEL_INVALID', /not a regular file/)
})

test('the same name twice', async () => {
  const archive = zipSync({ 'demo/a.txt': bytes('text'), 'demo/b.txt': bytes('text') })
  const twice = patched(archive, 'demo/b.txt', 'demo/a.txt')
  const tree = { files: [], trees: [treeLock('demo/', { 'demo/a.txt': 'text', 'demo/b.txt': 'text' })] }
  await refuses(world.publishBytes(WHEEL, twice, tree), 'E_WHEEL_INVALID', /in it twice/)
})

test('a file that unpacks to more than it says', async () => {
  const bomb = zipSync({ 'demo/a.txt': new Uint8Array(100_000) })
  const small = patched(bomb, uint32(100_000), uint32(4))
  await refuses(world.publishBytes(WHEEL, small, { files: FILES }), 'E_WHEEL_INVALID', /too many bytes/)
})

test('an archive that is cut off', async () => {
  const archive = zipSync({ 'demo/a.txt': bytes('text') })
  await refuses(
    world.publishBytes(WHEEL, archive.subarray(0, -30), { files: FILES }),
    'E_WHEEL_INVALID',
    /central directory/i,
  )
})
