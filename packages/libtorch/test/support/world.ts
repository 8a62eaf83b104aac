// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Zippable, zipSync } from 'fflate'
import type { FileLock, TreeLock, WheelLock } from '../../src'

/** What one test has for itself: a package index with one wheel, a pip that takes it from there, and a place to fetch it to. */
export class World implements Disposable {
  readonly root = mkdtempSync(join(tmpdir(), 'libtorch-test-'))
  readonly wheels = join(this.root, 'wheels')
  readonly parent = join(this.root, 'cache')
  readonly destination = join(this.parent, 'demo')
  readonly #log = join(this.root, 'log')

  constructor() {
    mkdirSync(this.wheels)
    mkdirSync(this.parent)
  }

  /** An environment in which pip behaves as `pip` says; the names are those of support/fake-python.mjs. */
  env(pip = 'works'): NodeJS.ProcessEnv {
    const python = fileURLToPath(new URL('fake-python.mjs', import.meta.url))
    return {
      PATH: process.env.PATH,
      PYTHON: python,
      FAKE_PIP: pip,
      FAKE_WHEELS: this.wheels,
      FAKE_LOG: this.#log,
    }
  }

  /** Puts a wheel into the index and returns the lock that fits it. */
  publish(file: string, content: Zippable, kept: Pick<WheelLock, 'files' | 'trees'>): WheelLock {
    return this.publishBytes(file, zipSync(content), kept)
  }

  publishBytes(file: string, wheel: Uint8Array, kept: Pick<WheelLock, 'files' | 'trees'>): WheelLock {
    writeFileSync(join(this.wheels, file), wheel)
    return { file, size: wheel.length, sha256: sha256(wheel), ...kept }
  }

  /** The calls of pip so far. */
  calls(): { args: string[]; temporary: string; constraint: string; virtualenv: string }[] {
    if (!existsSync(this.#log)) return []
    const lines = readFileSync(this.#log, 'utf8').trim().split('\n')
    return lines.map((line) => JSON.parse(line))
  }

  /** Everything beside and below the destination, as relative paths. */
  files(): string[] {
    const entries = readdirSync(this.parent, { recursive: true, withFileTypes: true })
    const paths = entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
    return paths.map((path) => path.slice(this.parent.length + 1)).sort()
  }

  [Symbol.dispose](): void {
    rmSync(this.root, { recursive: true, force: true })
  }
}

export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

export function sha256(data: Uint8Array | string): string {
  return createHash('sha256').update(data).digest('hex')
}

/** The lock of a file with this text. */
export function fileLock(path: string, text: string, to?: string): FileLock {
  const lock = { path, size: bytes(text).length, sha256: sha256(text) }
  return to === undefined ? lock : { ...lock, to }
}

/** The lock of a folder with these files, by their paths in the wheel. */
export function treeLock(path: string, files: Readonly<Record<string, string>>): TreeLock {
  const names = Object.keys(files).sort()
  const lines = names.map((name) => `${sha256(files[name] ?? '')}  ${name}\n`)
  const size = names.reduce((sum, name) => sum + bytes(files[name] ?? '').length, 0)
  return { path, files: names.length, size, sha256: sha256(lines.join('')) }
}
