// SPDX-License-Identifier: Apache-2.0

/** Turns tokens into text as they come. A character whose bytes are spread over tokens is held back until it is complete. */
export class Detokenizer {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true })

  constructor(private readonly bytes: (id: number) => Uint8Array) {}

  /** The text that this token completes; empty while a character is incomplete. */
  push(id: number): string {
    return this.#decoder.decode(this.bytes(id), { stream: true })
  }

  /** What is left at the end: U+FFFD for an incomplete character, else nothing. */
  end(): string {
    return this.#decoder.decode()
  }
}
