// SPDX-License-Identifier: Apache-2.0

/** One file of a wheel that is kept. */
export interface FileLock {
  /** Its path inside the wheel, with forward slashes. */
  readonly path: string
  /** Where it goes below the destination; the same path when left out. */
  readonly to?: string
  /** Bytes, uncompressed. */
  readonly size: number
  /** Of the uncompressed bytes, lower-case hexadecimal. */
  readonly sha256: string
  /** A program: it gets the permission to run, which wheels don't always carry. */
  readonly executable?: boolean
}

/** A whole folder of a wheel that is kept, at the same path below the destination. */
export interface TreeLock {
  /** Its path inside the wheel, ending in a slash. */
  readonly path: string
  /** How many files it holds. */
  readonly files: number
  /** The sum of their bytes, uncompressed. */
  readonly size: number
  /**
   * Of the text that `find PATH -type f | LC_ALL=C sort | xargs sha256sum` prints when run where only this wheel was unpacked: one
   * hash that pins the names and the contents of all of them.
   */
  readonly sha256: string
}

/** One wheel, pinned by name, size and hash, and what of it is kept. */
export interface WheelLock {
  /** The wheel's file name; it carries the project, the version and the tags that pip is asked for. */
  readonly file: string
  /** Bytes. */
  readonly size: number
  /** Lower-case hexadecimal. */
  readonly sha256: string
  readonly files: readonly FileLock[]
  readonly trees?: readonly TreeLock[]
}

/** The fields of a wheel's file name, `project-version-python-abi-platform.whl`. */
export interface WheelName {
  readonly project: string
  readonly version: string
  /** Such as `cp312`, or `py3` for any. */
  readonly python: string
  /** Such as `cp312`, or `none`. */
  readonly abi: string
  /** Such as `['manylinux_2_28_x86_64']`, or `['any']`. */
  readonly platforms: readonly string[]
}

/** Splits a wheel's file name; its optional build tag, as in `torch-2.10.0-3-cp312-…`, says nothing that pip could be asked for. */
export function parseWheelName(file: string): WheelName {
  const match = /^([\w.]+)-([\w.!+]+)-(?:\d\w*-)?([\w.]+)-(\w+)-([\w.]+)\.whl$/.exec(file)
  if (!match) throw new TypeError(`not a wheel's file name: ${file}`)
  const [, project = '', version = '', python = '', abi = '', platforms = ''] = match
  return { project, version, python, abi, platforms: platforms.split('.') }
}

/** Bytes that the kept files of these wheels take on the disk. */
export function keptBytes(locks: readonly WheelLock[]): number {
  let sum = 0
  for (const lock of locks) for (const part of [...lock.files, ...(lock.trees ?? [])]) sum += part.size
  return sum
}

/** Bytes that the disk must have free to fetch these wheels one after the other. */
export function peakBytes(locks: readonly WheelLock[]): number {
  let kept = 0
  let peak = 0
  for (const lock of locks) {
    const own = keptBytes([lock])
    // pip downloads to a temporary file and copies it; both are there for a moment.
    peak = Math.max(peak, kept + 2 * lock.size, kept + lock.size + own)
    kept += own
  }
  return peak
}
