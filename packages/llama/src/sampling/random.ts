// SPDX-License-Identifier: Apache-2.0

/**
 * The generator behind sampling: xoshiro128** (Blackman and Vigna, https://prng.di.unimi.it), its state filled by splitmix32
 * from the two halves of the seed. The same seed gives the same numbers on every platform and in every release.
 */
export class Random {
  readonly #state: Uint32Array

  /** From a seed, a whole number from 0 to 2^53 - 1, or from a whole state of four 32-bit words (not all 0). */
  constructor(seed: number | Uint32Array) {
    this.#state = typeof seed === 'number' ? expandSeed(seed) : Uint32Array.from(seed)
  }

  /** The next 32 random bits. */
  next(): number {
    const s = this.#state
    const result = Math.imul(rotateLeft(Math.imul(s[1]!, 5), 7), 9) >>> 0
    const t = s[1]! << 9
    s[2]! ^= s[0]!
    s[3]! ^= s[1]!
    s[1]! ^= s[2]!
    s[0]! ^= s[3]!
    s[2]! ^= t
    s[3] = rotateLeft(s[3]!, 11)
    return result
  }

  /** A number from 0 to below 1 with all 53 bits of a double: 27 from the first call of {@link next}, 26 from the second. */
  uniform(): number {
    const high = this.next() >>> 5
    const low = this.next() >>> 6
    return (high * 2 ** 26 + low) / 2 ** 53
  }
}

/** A seed that nobody chose. */
export function randomSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2))
  return (high! >>> 11) * 2 ** 32 + low!
}

function expandSeed(seed: number): Uint32Array {
  const state = new Uint32Array(4)
  for (const [half, at] of [
    [seed >>> 0, 0],
    [Math.floor(seed / 2 ** 32), 2],
  ] as const) {
    let counter = half
    for (let i = 0; i < 2; i++) {
      counter = (counter + 0x9e3779b9) >>> 0
      let z = counter
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
      state[at + i] = z ^ (z >>> 15)
    }
  }
  return state
}

function rotateLeft(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits))
}
