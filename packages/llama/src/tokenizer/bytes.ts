// SPDX-License-Identifier: Apache-2.0

/** Whether GPT-2's vocabulary spells this byte as the Latin-1 character of the same number. */
function isPrintable(byte: number): boolean {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad)
}

/**
 * GPT-2's reversible spelling of bytes, from character to byte: printable bytes stand for themselves, the 68 others are, in
 * their order, the characters from U+0100.
 */
const CHARACTER_TO_BYTE: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>()
  let next = 0x100
  for (let byte = 0; byte < 256; byte++) map.set(String.fromCharCode(isPrintable(byte) ? byte : next++), byte)
  return map
})()

/** The 256 bytes in that spelling, in their order. */
export const BYTE_TOKENS: readonly string[] = [...CHARACTER_TO_BYTE.keys()]

const encoder = new TextEncoder()

/** The bytes that a token of a byte-level vocabulary stands for. Characters outside the spelling stand for themselves. */
export function tokenBytes(token: string): Uint8Array {
  const bytes: number[] = []
  for (const character of token) {
    const byte = CHARACTER_TO_BYTE.get(character)
    if (byte === undefined) bytes.push(...encoder.encode(character))
    else bytes.push(byte)
  }
  return Uint8Array.from(bytes)
}
