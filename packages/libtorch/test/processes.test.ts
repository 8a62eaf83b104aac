// SPDX-License-Identifier: Apache-2.0
// Fetching from several processes, and from processes that die: they run the built package.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fetchWheelFiles, type WheelLock } from '../src'
import { bytes, fileLock, World } from './support/world'

const SCRIPT = fileURLToPath(new URL('support/fetch-process.mjs', import.meta.url))
const FETCHED = ['demo/.vllm-ops.json', 'demo/demo/a.txt']

let world: World
let lock: WheelLock
beforeEach(() => {
  world = new World()
  const kept = { files: [fileLock('demo/a.txt', 'text')] }
  lock = world.publish('demo-1.0-py3-none-any.whl', { 'demo/a.txt': bytes('text') }, kept)
})
afterEach(() => world[Symbol.dispose]())

/** Fetches in a process of its own, and calls `onOutput` with what it has printed so far. */
async function fetchElsewhere(fatal = '', env = world.env(), onOutput = (_output: string): void => {}) {
  const args = [SCRIPT, JSON.stringify(lock), world.destination, fatal]
  const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
    onOutput(output)
  })
  const [, signal] = await once(child, 'close')
  return { output, signal }
}

test.for(['download', 'verify', 'extract'])(
  'killed when it begins to %s: absent, and the next one mends it',
  async (step) => {
    expect(await fetchElsewhere(step)).toMatchObject({ signal: 'SIGKILL' })
    expect(existsSync(world.destination)).toBe(false)
    expect(world.files()).not.toEqual([])
    await fetchWheelFiles(lock, world.destination, { env: world.env() })
    expect(world.files()).toEqual(FETCHED)
  },
)

test('two at once: one downloads, the other waits and takes what the first made', async () => {
  // The download ends when one of the two has said that it waits.
  const ended: string[] = []
  const go = (output: string): void => {
    if (/^wait$/m.test(output)) writeFileSync(join(world.wheels, 'go'), '')
  }
  const run = async () => ended.push((await fetchElsewhere('', world.env('waits'), go)).output)
  await Promise.all([run(), run()])
  expect(ended.map((output) => output.trim().split('\n').at(-1))).toEqual(['fetched', 'fetched'])
  expect(world.calls()).toHaveLength(1)
  expect(world.files()).toEqual(FETCHED)
})

test('two at once that do not see each other: the later one discards its own', async () => {
  const elsewhere = join(world.root, 'elsewhere')
  await fetchWheelFiles(lock, elsewhere, { env: world.env() })
  writeFileSync(join(elsewhere, 'made-elsewhere'), '')
  await fetchWheelFiles(lock, world.destination, {
    env: world.env(),
    onProgress: ({ step }) => step === 'extract' && cpSync(elsewhere, world.destination, { recursive: true }),
  })
  expect(world.files()).toEqual([...FETCHED, 'demo/made-elsewhere'])
})
