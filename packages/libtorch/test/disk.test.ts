// SPDX-License-Identifier: Apache-2.0
import { createWriteStream } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { Writable } from 'node:stream'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { fetchWheelFiles, type WheelLock } from '../src'
import { bytes, fileLock, World } from './support/world'

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>()
  return { ...fs, createWriteStream: vi.fn(fs.createWriteStream) }
})
vi.mock('node:fs/promises', async (original) => {
  const fs = await original<typeof import('node:fs/promises')>()
  return { ...fs, statfs: vi.fn(fs.statfs) }
})

let world: World
let lock: WheelLock
beforeEach(() => {
  world = new World()
  const kept = { files: [fileLock('demo/a.txt', 'text')] }
  lock = world.publish('demo-1.0-py3-none-any.whl', { 'demo/a.txt': bytes('text') }, kept)
})
afterEach(() => {
  vi.restoreAllMocks()
  world[Symbol.dispose]()
})

test.for([
  ['ENOSPC', 'E_DISK_FULL', 'export XDG_CACHE_HOME='],
  ['EDQUOT', 'E_DISK_FULL', 'export XDG_CACHE_HOME='],
  ['EROFS', 'E_CACHE', 'export XDG_CACHE_HOME='],
] as const)('%s while extracting: %s, and nothing is left', async ([errno, code, fix]) => {
  vi.mocked(createWriteStream).mockImplementationOnce(failing(errno))
  await expect(fetchWheelFiles(lock, world.destination, { env: world.env() })).rejects.toMatchObject({
    code,
    fix: expect.stringContaining(fix),
  })
  expect(world.files()).toEqual([])
})

test('a disk that is too small is told before anything is downloaded', async () => {
  const { statfs: real } = await vi.importActual<typeof import('node:fs/promises')>('node:fs/promises')
  vi.mocked(statfs).mockImplementationOnce(async (path) => ({ ...(await real(path)), bavail: 1, bsize: 1 }))
  await expect(fetchWheelFiles(lock, world.destination, { env: world.env() })).rejects.toMatchObject({
    code: 'E_DISK_FULL',
  })
  expect(world.calls()).toEqual([])
})

/** A file that fails at the first write, as the system call does. */
function failing(code: string): typeof createWriteStream {
  const error = Object.assign(new Error(`${code}: write`), { code, syscall: 'write' })
  const stream = new Writable({ write: (_chunk, _encoding, done) => done(error) })
  return () => Object.assign(stream, { close() {}, bytesWritten: 0, path: '', pending: false })
}
