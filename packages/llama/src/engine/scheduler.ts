// SPDX-License-Identifier: Apache-2.0
import { blocksFor } from '../kv-cache'
import { BlockAllocator } from './block-allocator'
import type { Sequence } from './sequence'

/** How many tokens of a sequence the next step computes, from `sequence.numComputed` on. */
export interface ScheduledSequence {
  readonly sequence: Sequence
  readonly numTokens: number
}

/** What bounds the steps of a scheduler. */
export interface SchedulerLimits {
  /** Blocks of the cache; enough for the longest sequence. */
  readonly numBlocks: number
  /** Tokens a step at most: longer prompts are computed in several pieces. */
  readonly maxNumBatchedTokens: number
  /** Sequences a step at most. */
  readonly maxNumSeqs: number
}

/**
 * Decides what each step computes: the next token of every generating sequence, and with what is left of the step prompts,
 * piece by piece, first come, first served. When the cache is full, the sequence that came last gives its blocks back and
 * later computes again what it had.
 */
export class Scheduler {
  readonly allocator: BlockAllocator
  /** In the order of their coming. */
  #sequences: Sequence[] = []

  constructor(readonly limits: SchedulerLimits) {
    this.allocator = new BlockAllocator(limits.numBlocks)
  }

  get isEmpty(): boolean {
    return this.#sequences.length === 0
  }

  add(sequence: Sequence): void {
    this.#sequences.push(sequence)
  }

  /** Forgets a sequence and takes its blocks back. Twice is once. */
  remove(sequence: Sequence): void {
    this.#sequences = this.#sequences.filter((other) => other !== sequence)
    this.#release(sequence)
  }

  /** The next step; not empty while there are sequences. Their blocks reach to the last scheduled token. */
  schedule(): ScheduledSequence[] {
    const { maxNumBatchedTokens, maxNumSeqs } = this.limits
    const scheduled = new Map<Sequence, number>()
    let budget = maxNumBatchedTokens
    const generating = this.#sequences.filter(({ isGenerating }) => isGenerating)
    const prompts = this.#sequences.filter(({ isGenerating }) => !isGenerating)
    for (const sequence of [...generating, ...prompts]) {
      if (budget === 0 || scheduled.size === maxNumSeqs) break
      const numTokens = Math.min(sequence.numUncomputed, budget)
      if (!this.#reserve(sequence, numTokens, scheduled)) continue
      scheduled.set(sequence, numTokens)
      budget -= numTokens
    }
    return Array.from(scheduled, ([sequence, numTokens]) => ({ sequence, numTokens }))
  }

  /** Gives a sequence the blocks for its next tokens, if need be at the expense of one that came later. */
  #reserve(sequence: Sequence, numTokens: number, scheduled: ReadonlyMap<Sequence, number>): boolean {
    const { allocator } = this
    // Who has nothing yet waits until there is room for all of it: beginning and being sent back would be work for nothing.
    if (sequence.blocks.length === 0 && blocksFor(sequence.tokenIds.length) > allocator.numFree) return false
    const missing = blocksFor(sequence.numComputed + numTokens) - sequence.blocks.length
    while (allocator.numFree < missing) {
      const last = this.#sequences.findLast((other) => other.blocks.length > 0 && !scheduled.has(other))
      if (last === undefined || last === sequence) return false
      this.#release(last)
    }
    for (let i = 0; i < missing; i++) sequence.blocks.push(allocator.allocate()!)
    return true
  }

  #release(sequence: Sequence): void {
    this.allocator.release(sequence.blocks.splice(0))
    sequence.numComputed = 0
  }
}
