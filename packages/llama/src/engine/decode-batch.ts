// SPDX-License-Identifier: Apache-2.0
import { accelerator, Event, empty, keep, type Tensor, torch } from '@vllm-ops/core'
import type { AttentionMetadata } from '../attention-metadata'
import { BLOCK_SIZE, blocksFor } from '../kv-cache'
import type { Sequence } from './sequence'

/** A slot that nothing is stored in. */
const NO_SLOT = -1n

/**
 * The inputs of a step in which every sequence generates one token, in memory that stays where it is: a captured graph reads its inputs where
 * they lay when it was captured. Rows without a sequence compute nothing that is looked at, and store nothing.
 */
export class DecodeBatch {
  /** int64 `[size]` */
  readonly inputIds: Tensor
  /** int64 `[size]` */
  readonly positions: Tensor
  readonly #slotMapping: Tensor
  readonly #seqLens: Tensor
  readonly #blockTables: Tensor
  readonly #width: number
  /** All of the above one behind the other, so that one copy fills them. */
  readonly #onDevice: Tensor
  readonly #onHost: Tensor
  readonly #longs: BigInt64Array
  readonly #ints: Int32Array
  readonly #copied: Event
  readonly #views: Tensor[] = []

  /**
   * @param size rows
   * @param maxModelLen tokens of the longest sequence
   */
  constructor(
    readonly size: number,
    maxModelLen: number,
    device: string,
  ) {
    this.#width = blocksFor(maxModelLen)
    const longs = 3 * size
    const ints = size * (1 + this.#width)
    const bytes = 8 * longs + 4 * ints
    this.#onDevice = keep(empty([bytes], { dtype: 'uint8', device }))
    // A copy from pinned memory doesn't make the host wait. Without an accelerator there is none, and nothing to wait for.
    const pinMemory = accelerator() !== undefined
    this.#onHost = keep(empty([bytes], { dtype: 'uint8', pinMemory }))
    const { buffer, byteOffset } = this.#onHost.data()
    this.#longs = new BigInt64Array(buffer, byteOffset, longs)
    this.#ints = new Int32Array(buffer, byteOffset + 8 * longs, ints)
    this.#copied = new Event({ device })
    const view = (dtype: 'int64' | 'int32', start: number, shape: readonly number[]) => {
      const length = shape.reduce((a, b) => a * b, dtype === 'int64' ? 8 : 4)
      const part = this.#onDevice.narrow(0, start, length)
      const tensor = keep(part.viewAs(dtype, shape))
      part.dispose()
      this.#views.push(tensor)
      return tensor
    }
    this.inputIds = view('int64', 0, [size])
    this.positions = view('int64', 8 * size, [size])
    this.#slotMapping = view('int64', 16 * size, [size])
    this.#seqLens = view('int32', 24 * size, [size])
    this.#blockTables = view('int32', 28 * size, [size, this.#width])
  }

  /** Lays out a step: sequence i in row i, at most `size` of them. */
  fill(sequences: readonly Sequence[]): void {
    const { size } = this
    const longs = this.#longs
    const ints = this.#ints
    if (!this.#copied.query()) this.#copied.synchronizeSync()
    for (const [row, { tokenIds, numComputed, blocks }] of sequences.entries()) {
      longs[row] = BigInt(tokenIds[numComputed]!)
      longs[size + row] = BigInt(numComputed)
      const block = blocks[Math.floor(numComputed / BLOCK_SIZE)]!
      longs[2 * size + row] = BigInt(block * BLOCK_SIZE + (numComputed % BLOCK_SIZE))
      ints[row] = numComputed + 1
      ints.set(blocks, size + row * this.#width)
    }
    const used = sequences.length
    longs.fill(0n, used, size)
    longs.fill(0n, size + used, 2 * size)
    longs.fill(NO_SLOT, 2 * size + used, 3 * size)
    ints.fill(0, used, size)
    torch.aten.copy_.default!(this.#onDevice, this.#onHost, true)
    this.#copied.record()
  }

  /** What attention is told, where no sequence is longer than `maxSeqLen`. */
  metadata(maxSeqLen: number): AttentionMetadata {
    return {
      slotMapping: this.#slotMapping,
      numPrefillTokens: 0,
      prefills: [],
      decode: {
        numTokens: this.size,
        blockTables: this.#blockTables,
        seqLens: this.#seqLens,
        maxSeqLen,
      },
    }
  }

  /** Frees the memory. Twice is once. */
  dispose(): void {
    for (const tensor of [...this.#views, this.#onDevice, this.#onHost]) tensor.dispose()
    this.#copied.dispose()
  }
}
