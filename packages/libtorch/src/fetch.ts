// SPDX-License-Identifier: Apache-2.0
import { mkdir, mkdtemp, open, readdir, rename, rm, statfs, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { diskFull, errnoOf, fileError, LibtorchError } from './errors'
import { extractWheel, verifyWheel } from './extract'
import { withLock } from './lock-file.mjs'
import { folderState, MARKER, markerText } from './marker'
import { downloadWheel } from './pip'
import { keptBytes, peakBytes, type WheelLock } from './wheel-lock'

/** How far a fetch is. */
export interface FetchProgress {
  /** `wait`: another process fetches the same; `download`, `verify` and `extract` come in turn for every wheel. */
  readonly step: 'wait' | 'download' | 'verify' | 'extract'
  /** The wheel's file name; while waiting, the destination. */
  readonly file: string
  /** Bytes of this step that are done. */
  readonly done: number
  /** Bytes of this step; 0 while waiting. */
  readonly total: number
}

export interface FetchOptions {
  /** Instead of `process.env`: for pip, and `PYTHON` for the interpreter that runs it. */
  readonly env?: NodeJS.ProcessEnv
  readonly onProgress?: ((progress: FetchProgress) => void) | undefined
  /** Ends the fetch, and removes what it has left so far. */
  readonly signal?: AbortSignal | undefined
}

/** Files that are written to the disk at a time before the folder gets its name. */
const SYNC_CONCURRENCY = 8

/**
 * Makes `destination` a folder with exactly the files that the lock (or all of several locks) lists: downloads each wheel by the
 * user's pip, checks it, extracts what is kept, and removes the wheel. Returns `destination` at once when it is complete already.
 *
 * The folder gets its name by a rename at the very end, so it is absent or complete: after a kill, on a full disk, and while
 * another process fetches it too (that one is waited for). Left-overs of killed fetches are removed by the next one. A folder made
 * from another lock is replaced; anything else at that place is an error. Everything is written to the parent of `destination`.
 *
 * @throws {LibtorchError} any code but `E_TORCH_*` and `E_PLATFORM`
 */
export async function fetchWheelFiles(
  spec: WheelLock | readonly WheelLock[],
  destination: string,
  options: FetchOptions = {},
): Promise<string> {
  const locks: readonly WheelLock[] = 'file' in spec ? [spec] : spec
  const place = new Place(resolve(destination), locks)
  const { signal, onProgress } = options
  const onWait = () => onProgress?.({ step: 'wait', file: place.folder, done: 0, total: 0 })
  try {
    if (place.isComplete()) return place.folder
    await makeFolder(place.parent)
    await withLock(place.sibling('lock'), () => fetchInto(place, options), { signal, onWait })
  } catch (error) {
    throw fileError(error, place.parent)
  }
  return place.folder
}

async function fetchInto(place: Place, options: FetchOptions): Promise<void> {
  if (place.isComplete()) return
  await place.removeLeftovers()
  await place.checkSpace()
  const staging = await mkdtemp(place.sibling('tmp-'))
  try {
    const tree = join(staging, 'tree')
    await mkdir(tree)
    for (const [index, lock] of place.locks.entries())
      await fetchWheel(lock, join(staging, `wheel-${index}`), tree, options)
    await writeFile(join(tree, MARKER), markerText(place.locks))
    await syncTree(tree)
    options.signal?.throwIfAborted()
    await place.put(tree)
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

async function fetchWheel(
  lock: WheelLock,
  folder: string,
  tree: string,
  { env = process.env, onProgress, signal }: FetchOptions,
): Promise<void> {
  const { file } = lock
  const step = (name: FetchProgress['step'], total: number) => {
    let done = 0
    const report = (now: number) => {
      done = Math.min(total, now)
      onProgress?.({ step: name, file, done, total })
    }
    report(0)
    return { report, add: (bytes: number) => report(done + bytes) }
  }
  const download = step('download', lock.size)
  await mkdir(folder)
  const wheel = await downloadWheel(lock, folder, { env, signal, onBytes: download.report })
  download.report(lock.size)
  await verifyWheel(wheel, lock, { signal, onBytes: step('verify', lock.size).add })
  await extractWheel(wheel, lock, tree, { signal, onBytes: step('extract', keptBytes([lock])).add })
  await rm(folder, { recursive: true })
}

/** A destination and the hidden siblings that a fetch needs beside it, on the same file system. */
class Place {
  readonly parent: string

  constructor(
    readonly folder: string,
    readonly locks: readonly WheelLock[],
  ) {
    this.parent = dirname(folder)
  }

  sibling(suffix: string): string {
    return join(this.parent, `.${basename(this.folder)}.${suffix}`)
  }

  /** Throws `E_DESTINATION` when something that isn't ours is there. */
  isComplete(): boolean {
    const state = folderState(this.folder, this.locks)
    if (state === 'foreign')
      throw new LibtorchError(
        'E_DESTINATION',
        `${this.folder} was not made by vllm-ops, so it is left as it is.`,
        `Move it away, or remove it: rm -r '${this.folder}'`,
      )
    return state === 'complete'
  }

  /** Removes what killed fetches left; only the holder of the lock may call it. */
  async removeLeftovers(): Promise<void> {
    const prefixes = ['tmp-', 'old-'].map((suffix) => basename(this.sibling(suffix)))
    for (const name of await readdir(this.parent))
      if (prefixes.some((prefix) => name.startsWith(prefix)))
        await rm(join(this.parent, name), { recursive: true, force: true })
  }

  /** Throws `E_DISK_FULL` before half a gigabyte is downloaded in vain. */
  async checkSpace(): Promise<void> {
    const needed = peakBytes(this.locks)
    const { bavail, bsize } = await statfs(this.parent)
    if (bavail * bsize < needed)
      throw diskFull(
        `Fetching ${this.folder} needs ${megabytes(needed)} MB, and the disk has ${megabytes(bavail * bsize)} MB left.`,
      )
  }

  /** Gives the finished `tree` the destination's name. */
  async put(tree: string): Promise<void> {
    for (;;) {
      try {
        await rename(tree, this.folder)
        return await syncPath(this.parent)
      } catch (error) {
        const code = errnoOf(error)
        if (code !== 'ENOTEMPTY' && code !== 'EEXIST') throw error
      }
      // Made by a process that didn't see our lock (another machine, say), or from another lock.
      if (this.isComplete()) return
      const old = await mkdtemp(this.sibling('old-'))
      await rename(this.folder, join(old, 'tree')).catch((error) => {
        if (errnoOf(error) !== 'ENOENT') throw error
      })
      await rm(old, { recursive: true, force: true })
    }
  }
}

/** Makes a folder and those above it. (Node's own recursive `mkdir` never returns where one can't be made in a folder that exists.) */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    const code = errnoOf(error)
    if (code === 'EEXIST') return
    if (code !== 'ENOENT' || dirname(path) === path) throw error
    await makeFolder(dirname(path))
    await mkdir(path).catch((again: unknown) => {
      if (errnoOf(again) !== 'EEXIST') throw again
    })
  }
}

/** Brings everything below `folder` to the disk, so that no name outlives its contents when the power goes. */
async function syncTree(folder: string): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const paths = entries.map((entry) => join(entry.parentPath, entry.name))
  const next = paths.values()
  await Promise.all(
    Array.from({ length: SYNC_CONCURRENCY }, async () => {
      for (const path of next) await syncPath(path)
    }),
  )
  await syncPath(folder)
}

async function syncPath(path: string): Promise<void> {
  const file = await open(path, 'r')
  await file.sync().finally(() => file.close())
}

function megabytes(bytes: number): number {
  return Math.ceil(bytes / 1e6)
}
