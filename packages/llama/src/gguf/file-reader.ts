// SPDX-License-Identifier: Apache-2.0
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { ModelFormatError } from '../errors'

const WINDOW_BYTES = 1 << 16

/** Random access to a regular file through one small window: cheap for reads that go forward. */
export class FileReader {
  readonly size: number
  readonly #descriptor: number
  #window = Buffer.alloc(0)
  #windowStart = 0

  constructor(readonly path: string) {
    // Asked before it is opened: opening a named pipe would wait for a writer.
    if (!statSync(path).isFile()) {
      throw new ModelFormatError({ file: path, where: 'the path', message: 'expected a regular file' })
    }
    this.#descriptor = openSync(path, 'r')
    this.size = fstatSync(this.#descriptor).size
  }

  /** `length` bytes from `offset`, valid until the next call. They must lie inside the file. */
  read(offset: number, length: number): Buffer {
    const begin = offset - this.#windowStart
    if (begin >= 0 && begin + length <= this.#window.length)
      return this.#window.subarray(begin, begin + length)
    const bytes = Math.max(length, Math.min(WINDOW_BYTES, this.size - offset))
    this.#window = Buffer.allocUnsafe(bytes)
    this.#windowStart = offset
    for (let done = 0; done < bytes; ) {
      const count = readSync(this.#descriptor, this.#window, done, bytes - done, offset + done)
      if (count === 0)
        throw new ModelFormatError({
          file: this.path,
          where: `byte ${offset + done}`,
          message: 'the file became shorter while it was read',
        })
      done += count
    }
    return this.#window.subarray(0, length)
  }

  close(): void {
    closeSync(this.#descriptor)
  }
}
