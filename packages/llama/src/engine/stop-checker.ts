// SPDX-License-Identifier: Apache-2.0

/** Looks for stop texts in a stream, and holds back what may be the beginning of one. */
export class StopChecker {
  #held = ''

  constructor(private readonly stops: readonly string[]) {}

  /** Adds text; returns what can be passed on, and whether a stop text followed it. */
  push(text: string): { text: string; stopped: boolean } {
    const all = this.#held + text
    const found = this.stops.map((stop) => all.indexOf(stop)).filter((index) => index >= 0)
    if (found.length > 0) {
      this.#held = ''
      return { text: all.slice(0, Math.min(...found)), stopped: true }
    }
    const hold = Math.max(0, ...this.stops.map((stop) => overlap(all, stop)))
    this.#held = all.slice(all.length - hold)
    return { text: all.slice(0, all.length - hold), stopped: false }
  }

  /** What was held back, when nothing more comes. */
  end(): string {
    const held = this.#held
    this.#held = ''
    return held
  }
}

/** The length of the longest end of `text` that is a proper beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length
  }
  return 0
}
