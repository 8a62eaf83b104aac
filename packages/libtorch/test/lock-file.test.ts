// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { withLock } from '../src/lock-file.mjs'

let folder: string
let path: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'libtorch-test-'))
  path = join(folder, 'lock')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** What a lock of this process says. */
const mine = (): Promise<Record<string, unknown>> =>
  withLock(path, async () => JSON.parse(readFileSync(path, 'utf8')))

test('gives what the work gives, and removes the lock, also when the work fails', async () => {
  expect(await withLock(path, async () => 7)).toBe(7)
  await expect(withLock(path, () => Promise.reject(new Error('no')))).rejects.toThrow('no')
  expect(existsSync(path)).toBe(false)
})

test('one at a time; who waits is told once by whom it is held', async () => {
  const events: string[] = []
  const work = (name: string) => async () => {
    events.push(`${name} begins`)
    await sleep(250)
    events.push(`${name} ends`)
  }
  const first = withLock(path, work('first'))
  await sleep(20)
  await withLock(path, work('second'), { onWait: (pid) => events.push(`waits for ${pid === process.pid}`) })
  await first
  expect(events).toEqual(['first begins', 'waits for true', 'first ends', 'second begins', 'second ends'])
})

test.for([
  ['is gone', { pid: 2 ** 30 }],
  ['has ended, and its number is that of another by now', { started: '1' }],
] as const)('a lock whose process %s holds nobody up', async ([, change]) => {
  writeFileSync(path, JSON.stringify({ ...(await mine()), ...change }))
  expect(await withLock(path, async () => 'mine', { signal: AbortSignal.timeout(20_000) })).toBe('mine')
})

test('nor does a lock whose process has ended, though its parent has not noticed', async () => {
  // `exec` makes the shell a program that never asks after the child it had.
  const parent = spawn('sh', ['-c', 'sleep 60 & echo $!; exec sleep 60'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  try {
    const [line] = await once(parent.stdout, 'data')
    const pid = Number(line)
    while (readFileSync(`/proc/${parent.pid}/comm`, 'utf8') !== 'sleep\n') await sleep(10)
    process.kill(pid)
    while (!readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')) await sleep(10)
    const started = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[19]
    writeFileSync(path, JSON.stringify({ ...(await mine()), pid, started }))
    expect(await withLock(path, async () => 'mine', { signal: AbortSignal.timeout(20_000) })).toBe('mine')
  } finally {
    parent.kill()
  }
})

test.for([
  ['of another machine', '{"pid":1,"started":"1","space":"elsewhere"}'],
  ['that is just being written', ''],
] as const)('a lock %s is respected', async ([, text]) => {
  writeFileSync(path, text)
  const waiting = withLock(path, async () => 'mine', { signal: AbortSignal.timeout(400) })
  await expect(waiting).rejects.toThrow(/abort/i)
  expect(readFileSync(path, 'utf8')).toBe(text)
})

test('a lock that somebody else has taken in the meantime is left to them', async () => {
  await withLock(path, async () => writeFileSync(path, 'theirs'))
  expect(readFileSync(path, 'utf8')).toBe('theirs')
})
