// SPDX-License-Identifier: Apache-2.0
// Plain JavaScript: scripts/run.mjs needs it on a fresh clone, before anything can be compiled.
//
// A lock between processes is a file that names its owner. The owner touches it every few seconds; it counts as abandoned when the
// named process is gone (same machine, same process namespace) or when nobody has touched it for a while (anywhere else).
// A lock saves work. It is not what keeps results whole: that is the rename at the end of the work.
import { link, mkdir, open, readFile, readlink, rename, rm, stat, utimes } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const POLL_MS = 100
const TOUCH_MS = 5_000
const ABANDONED_MS = 60_000
/** The start of a process that is there, where the system doesn't tell it. */
const UNKNOWN = 'unknown'

/**
 * Runs `work` while no other process holds the lock `path`, and waits for as long as one does.
 *
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} work
 * @param {{ signal?: AbortSignal | undefined, onWait?: ((pid: number) => void) | undefined }} [options] `onWait` is called once
 *   when somebody else holds the lock
 * @returns {Promise<T>}
 */
export async function withLock(path, work, { signal, onWait } = {}) {
  await mkdir(dirname(path), { recursive: true })
  const mine = `${JSON.stringify(await identity(process.pid))}\n`
  let waited = false
  /** @type {{ text: string, touched: number, since: number } | undefined} */
  let seen
  while (!(await create(path, mine))) {
    signal?.throwIfAborted()
    const held = await observe(path)
    if (!held) continue
    if (seen?.text !== held.text || seen.touched !== held.touched)
      seen = { ...held, since: performance.now() }
    if (await abandoned(seen)) {
      await takeAway(path, seen.text)
      continue
    }
    if (!waited) onWait?.(ownerOf(seen.text)?.pid ?? 0)
    waited = true
    await sleep(POLL_MS, undefined, { signal })
  }
  const touching = setInterval(() => utimes(path, new Date(), new Date()).catch(() => {}), TOUCH_MS)
  touching.unref()
  try {
    return await work()
  } finally {
    clearInterval(touching)
    // Somebody may have taken it away in the meantime: only our own file goes.
    if ((await observe(path))?.text === mine) await rm(path, { force: true })
  }
}

/**
 * @param {string} path
 * @param {string} text
 */
async function create(path, text) {
  try {
    const file = await open(path, 'wx')
    await file.writeFile(text).finally(() => file.close())
    return true
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'EEXIST') return false
    throw error
  }
}

/** @param {string} path */
async function observe(path) {
  try {
    const [text, { mtimeMs }] = await Promise.all([readFile(path, 'utf8'), stat(path)])
    return { text, touched: mtimeMs }
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return undefined
    throw error
  }
}

/** @param {{ text: string, since: number }} held */
async function abandoned({ text, since }) {
  const owner = ownerOf(text)
  if (owner) {
    const { space, started } = await identity(owner.pid)
    if (owner.space === space) return started !== UNKNOWN && started !== owner.started
  }
  return performance.now() - since > ABANDONED_MS
}

/**
 * Removes the abandoned lock, and not one that somebody has made in its place since it was looked at.
 *
 * @param {string} path
 * @param {string} text
 */
async function takeAway(path, text) {
  const aside = `${path}.${process.pid}.${Date.now()}`
  try {
    await rename(path, aside)
    if ((await readFile(aside, 'utf8')) !== text) await link(aside, path)
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error)
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error
  }
  await rm(aside, { force: true })
}

/**
 * @param {string} text
 * @returns {{ pid: number, started: string, space: string } | undefined} nothing while the file is still empty
 */
function ownerOf(text) {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/**
 * A process as told apart from any other of the same number: where its number is valid, and when it started ('' when it is gone).
 *
 * @param {number} pid
 */
async function identity(pid) {
  const namespace = await readlink('/proc/self/ns/pid').catch(() => process.platform)
  return { pid, started: await startTime(pid), space: `${hostname()} ${namespace}` }
}

/** @param {number} pid */
async function startTime(pid) {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  if (stat !== undefined) {
    // Field 3 is the state and 22 the start, counted past the command, which may itself hold spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    // A process that ended and that its parent has not asked after is still listed.
    return 'ZX'.includes(fields[0] ?? '') ? '' : (fields[19] ?? UNKNOWN)
  }
  try {
    process.kill(pid, 0)
    return UNKNOWN
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM' ? UNKNOWN : ''
  }
}
