// SPDX-License-Identifier: Apache-2.0

/** Hands out the blocks of the paged cache by number. */
export class BlockAllocator {
  readonly #free: number[]
  readonly #isFree: Uint8Array

  constructor(readonly numBlocks: number) {
    // From the end of the list, so that the first block handed out is 0.
    this.#free = Array.from({ length: numBlocks }, (_, i) => numBlocks - 1 - i)
    this.#isFree = new Uint8Array(numBlocks).fill(1)
  }

  get numFree(): number {
    return this.#free.length
  }

  /** A block that nobody has, or `undefined` if all are taken. */
  allocate(): number | undefined {
    const block = this.#free.pop()
    if (block !== undefined) this.#isFree[block] = 0
    return block
  }

  /** Takes blocks back. */
  release(blocks: Iterable<number>): void {
    for (const block of blocks) {
      if (this.#isFree[block] !== 0) throw new RangeError(`block ${block} is not allocated`)
      this.#isFree[block] = 1
      this.#free.push(block)
    }
  }
}
