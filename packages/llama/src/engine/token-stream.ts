// SPDX-License-Identifier: Apache-2.0
import type { GeneratedToken } from './sequence'

/** Carries tokens from the engine to the one who reads them. */
export class TokenStream implements AsyncIterable<GeneratedToken> {
  readonly #tokens: GeneratedToken[] = []
  #outcome: { readonly error?: { readonly reason: unknown } } | undefined
  #wake: (() => void) | undefined

  push(token: GeneratedToken): void {
    this.#tokens.push(token)
    this.#wake?.()
  }

  /** Nothing more comes. */
  end(): void {
    this.#outcome ??= {}
    this.#wake?.()
  }

  /** Nothing more comes, and this is why. Tokens that were not read yet are dropped. */
  fail(reason: unknown): void {
    this.#outcome ??= { error: { reason } }
    this.#wake?.()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, undefined> {
    for (;;) {
      if (this.#outcome?.error) throw this.#outcome.error.reason
      const token = this.#tokens.shift()
      if (token) {
        yield token
      } else if (this.#outcome) {
        return
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    }
  }
}
