// SPDX-License-Identifier: Apache-2.0
import { ModelFormatError } from '../errors'

/** The typed view of a GGUF file's metadata: every getter checks what it returns and names file and key when it fails. */
export class GgufMetadata {
  constructor(
    readonly file: string,
    private readonly values: ReadonlyMap<string, unknown>,
  ) {}

  has(key: string): boolean {
    return this.values.has(key)
  }

  string(key: string, fallback?: string): string {
    return this.#get(key, 'a string', (v): v is string => typeof v === 'string', fallback)
  }

  boolean(key: string, fallback?: boolean): boolean {
    return this.#get(key, 'a boolean', (v): v is boolean => typeof v === 'boolean', fallback)
  }

  /** A finite number from `min` to `max`. */
  float(key: string, range: { min: number; max: number }, fallback?: number): number {
    const inRange = (v: unknown): v is number => typeof v === 'number' && v >= range.min && v <= range.max
    return this.#get(key, `a number from ${range.min} to ${range.max}`, inRange, fallback)
  }

  /** A whole number from `min` to `max`; files store it with 32 or 64 bits. */
  integer(key: string, range: { min: number; max: number }, fallback?: number): number {
    const { min, max } = range
    const inRange = (v: unknown): v is number | bigint =>
      (typeof v === 'bigint' || Number.isInteger(v)) &&
      (v as number | bigint) >= min &&
      (v as number | bigint) <= max
    return Number(this.#get<number | bigint>(key, `a whole number from ${min} to ${max}`, inRange, fallback))
  }

  strings(key: string): string[] {
    return this.#array(key, 'strings', (v): v is string => typeof v === 'string')
  }

  numbers(key: string): number[] {
    return this.#array(key, 'numbers', (v): v is number => typeof v === 'number')
  }

  error(key: string, message: string): ModelFormatError {
    return new ModelFormatError({ file: this.file, where: `metadata key "${key}"`, message })
  }

  #array<T>(key: string, of: string, is: (v: unknown) => v is T): T[] {
    return this.#get(key, `an array of ${of}`, (v): v is T[] => Array.isArray(v) && v.every(is))
  }

  #get<T>(key: string, expected: string, is: (v: unknown) => v is T, fallback?: T): T {
    const value = this.values.get(key)
    if (value === undefined) {
      if (fallback !== undefined) return fallback
      throw this.error(key, `it is missing; expected ${expected}`)
    }
    if (!is(value)) throw this.error(key, `expected ${expected}, received ${describe(value)}`)
    return value
  }
}

function describe(value: unknown): string {
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'string') return `the string ${JSON.stringify(value.slice(0, 40))}`
  return `${typeof value} ${value}`
}
