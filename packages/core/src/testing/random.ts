// SPDX-License-Identifier: Apache-2.0
import type { Random } from '@vllm-ops/core'

/**
 * A small generator of our own, so that every machine and release tests the same numbers: Weyl sequence and two rounds of
 * multiply-xorshift on 32 bits (the finalizer that splitmix uses on 64). Its statistics are ample for test data, for nothing else.
 */
export class SeededRandom implements Random {
  private state: number
  private spare: number | undefined

  /** The same text gives the same sequence. */
  constructor(seed: string) {
    // FNV-1a: neighbouring names begin far apart.
    let hash = 0x811c9dc5
    for (let i = 0; i < seed.length; i++) hash = Math.imul(hash ^ seed.charCodeAt(i), 0x01000193)
    this.state = hash
  }

  /** A whole number of 32 random bits. */
  bits(): number {
    this.state = (this.state + 0x9e3779b9) | 0
    let z = this.state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }

  /** From 0 to before 1. */
  uniform(): number {
    return this.bits() / 2 ** 32
  }

  /** A whole number from `from` to before `to`. */
  integer(from: number, to: number): number {
    return from + Math.floor(this.uniform() * (to - from))
  }

  /** N(0, 1), by Box and Muller's transform. */
  normal(): number {
    if (this.spare !== undefined) {
      const value = this.spare
      this.spare = undefined
      return value
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()))
    const angle = 2 * Math.PI * this.uniform()
    this.spare = radius * Math.sin(angle)
    return radius * Math.cos(angle)
  }
}
