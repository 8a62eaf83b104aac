// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { chmod, mkdir, stat } from 'node:fs/promises'
import { basename, dirname, resolve, sep } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Entry, openPromise, type ZipFile } from 'yauzl'
import { errnoOf, LibtorchError } from './errors'
import type { FileLock, TreeLock, WheelLock } from './wheel-lock'

export interface ExtractOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the number of bytes done since the last call. */
  readonly onBytes: (bytes: number) => void
}

/** Checks the whole wheel against its lock. Throws `E_HASH_MISMATCH`. */
export async function verifyWheel(
  wheel: string,
  lock: WheelLock,
  { signal, onBytes }: ExtractOptions,
): Promise<void> {
  const { size } = await stat(wheel)
  if (size !== lock.size) throw mismatch(lock, basename(wheel), `${size} bytes`, `${lock.size}`)
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(wheel, { highWaterMark: 1 << 20, signal })) {
    hash.update(chunk)
    onBytes(chunk.length)
  }
  const sha256 = hash.digest('hex')
  if (sha256 !== lock.sha256) throw mismatch(lock, basename(wheel), `sha256 ${sha256}`, lock.sha256)
}

/**
 * Extracts what `lock` lists, and nothing else, from `wheel` into the folder `destination`. Every file is checked against the lock
 * while it is written. Nothing that the archive says decides where a file goes or how large it may become: names outside
 * `destination`, links, repeated names and sizes other than the lock's are errors (`E_WHEEL_INVALID`, `E_HASH_MISMATCH`).
 */
export async function extractWheel(
  wheel: string,
  lock: WheelLock,
  destination: string,
  options: ExtractOptions,
): Promise<void> {
  const files = new Map(lock.files.map((file) => [file.path, file]))
  const trees = (lock.trees ?? []).map((tree) => ({
    tree,
    lines: new Map<string, string>(),
    left: tree.size,
  }))
  const zip = await openPromise(wheel, { lazyEntries: true, strictFileNames: true }).catch((error) => {
    throw invalid(lock, error)
  })
  try {
    for await (const entry of entries(zip, lock)) {
      const name = entry.fileName
      const file = files.get(name)
      const kept = file ?? trees.find(({ tree }) => name.startsWith(tree.path))
      if (!kept || name.endsWith('/')) continue
      // Only regular files: the upper half of the attributes is the Unix mode, 0 when the archive was made elsewhere.
      const type = (entry.externalFileAttributes >>> 16) & 0o170000
      if (type !== 0 && type !== 0o100000) throw invalid(lock, `${name} is not a regular file`)
      const to = inside(destination, file?.to ?? name, lock)
      if ('tree' in kept) {
        kept.left -= entry.uncompressedSize
        if (kept.left < 0) throw mismatch(lock, kept.tree.path, 'more bytes', `${kept.tree.size}`)
        kept.lines.set(name, await extractEntry(zip, entry, to, entry.uncompressedSize, lock, options))
      } else {
        const sha256 = await extractEntry(zip, entry, to, kept.size, lock, options)
        if (sha256 !== kept.sha256) throw mismatch(lock, name, `sha256 ${sha256}`, kept.sha256)
        if (kept.executable) await chmod(to, 0o755)
        files.delete(name)
      }
    }
  } finally {
    zip.close()
  }
  for (const [name] of files) throw invalid(lock, `it has no ${name}`)
  for (const { tree, lines } of trees) checkTree(tree, lines, lock)
}

async function* entries(zip: ZipFile, lock: WheelLock): AsyncGenerator<Entry> {
  // The archive's errors only: what the consumer throws doesn't pass through here.
  const iterator = zip.eachEntry()
  for (;;) {
    const next = await iterator.next().catch((error: unknown) => {
      throw invalid(lock, error)
    })
    if (next.done) return
    yield next.value
  }
}

async function extractEntry(
  zip: ZipFile,
  entry: Entry,
  to: string,
  size: number,
  lock: WheelLock,
  { signal, onBytes }: ExtractOptions,
): Promise<string> {
  if (entry.uncompressedSize !== size)
    throw mismatch(lock, entry.fileName, `${entry.uncompressedSize} bytes`, `${size}`)
  const hash = createHash('sha256')
  const tap = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk)
      onBytes(chunk.length)
      done(null, chunk)
    },
  })
  try {
    await mkdir(dirname(to), { recursive: true })
    // yauzl ends the stream with an error when the data is longer or shorter than uncompressedSize.
    const source = await zip.openReadStreamPromise(entry)
    await pipeline(source, tap, createWriteStream(to, { flags: 'wx' }), ...(signal ? [{ signal }] : []))
  } catch (error) {
    signal?.throwIfAborted()
    const code = errnoOf(error)
    if (code === 'EEXIST' || code === 'ENOTDIR') throw invalid(lock, `${entry.fileName} is in it twice`)
    throw code === undefined ? invalid(lock, error) : error
  }
  return hash.digest('hex')
}

function checkTree(tree: TreeLock, lines: ReadonlyMap<string, string>, lock: WheelLock): void {
  if (lines.size !== tree.files) throw mismatch(lock, tree.path, `${lines.size} files`, `${tree.files}`)
  const names = [...lines.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  const hash = createHash('sha256')
  for (const name of names) hash.update(`${lines.get(name)}  ${name}\n`)
  const sha256 = hash.digest('hex')
  if (sha256 !== tree.sha256) throw mismatch(lock, tree.path, `sha256 ${sha256}`, tree.sha256)
}

/** The absolute path of `relative` below `folder`, which it may not leave. */
function inside(folder: string, relative: FileLock['path'], lock: WheelLock): string {
  const root = resolve(folder)
  const path = resolve(root, relative)
  if (!path.startsWith(root + sep)) throw invalid(lock, `${relative} leads out of the destination`)
  return path
}

function invalid(lock: WheelLock, cause: unknown): LibtorchError {
  const what = cause instanceof Error ? cause.message : String(cause)
  return new LibtorchError(
    'E_WHEEL_INVALID',
    `${lock.file} is not the archive that it should be: ${what}.`,
    'Nothing was installed; report where your package index got this file from.',
    cause instanceof Error ? { cause } : undefined,
  )
}

function mismatch(lock: WheelLock, what: string, received: string, expected: string): LibtorchError {
  const where = what === lock.file ? what : `${what} of ${lock.file}`
  return new LibtorchError(
    'E_HASH_MISMATCH',
    `${where} has ${received} instead of ${expected}.`,
    'Nothing was installed; run the command again, and if it stays so, let pip use another index: export PIP_INDEX_URL=…',
  )
}
