// SPDX-License-Identifier: Apache-2.0
import { InvalidArgumentError } from 'commander'

interface Range {
  min?: number
  max?: number
  /** A number that is itself not allowed, all above it are. */
  above?: number
}

/** Reads a whole number in decimal digits. */
export function integer(range: Range): (text: string) => number {
  return (text) => check(text, /^-?\d+$/.test(text) ? Number(text) : Number.NaN, 'a whole number', range)
}

/** Reads a finite decimal number. */
export function decimal(range: Range): (text: string) => number {
  const form = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i
  return (text) => check(text, form.test(text) ? Number(text) : Number.NaN, 'a number', range)
}

function check(text: string, value: number, what: string, { min, max, above }: Range): number {
  const fits =
    Math.abs(value) <= Number.MAX_SAFE_INTEGER &&
    (min === undefined || value >= min) &&
    (max === undefined || value <= max) &&
    (above === undefined || value > above)
  if (fits) return value
  const limits: string[] = []
  if (min !== undefined) limits.push(`of at least ${min}`)
  if (above !== undefined) limits.push(`above ${above}`)
  if (max !== undefined) limits.push(limits.length > 0 ? `at most ${max}` : `of at most ${max}`)
  throw new InvalidArgumentError(`Expected ${what} ${limits.join(' and ')}, received '${text}'.`)
}

/** Reads a torch device: `cpu`, `cuda`, `cuda:1`. */
export function device(text: string): string {
  if (/^[a-z]+(:\d+)?$/.test(text)) return text
  throw new InvalidArgumentError(`Expected a device such as cpu or cuda:0, received '${text}'.`)
}

/** Reads a text that must not be empty. */
export function nonEmpty(text: string): string {
  if (text !== '') return text
  throw new InvalidArgumentError('Expected a text that is not empty.')
}
