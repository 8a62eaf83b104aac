// SPDX-License-Identifier: Apache-2.0

type Attributes = Record<string, string | number | boolean | undefined>

/** An element with its attributes and what is in it; attributes that are undefined or false are left out. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...content: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? '' : String(value))
  }
  made.append(...content)
  return made
}

/** Microseconds for people: `12.3 µs`, `4.56 ms`. */
export function duration(us: number): string {
  if (us >= 1e6) return `${(us / 1e6).toFixed(2)} s`
  return us >= 1e3 ? `${(us / 1e3).toFixed(2)} ms` : `${us.toFixed(1)} µs`
}

/** The class of a row's colour: the same name has the same one everywhere, of twelve. */
export function tint(name: string): string {
  if (name.startsWith('(')) return 'tint-none'
  let hash = 0x811c9dc5
  for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193) >>> 0
  return `tint-${(hash >>> 8) % 12}`
}
