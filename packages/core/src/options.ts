// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { ArgumentError } from './errors'

/** Options as they are: a misspelt name would silently mean nothing. */
export function checked<T extends object>(what: string, options: T, names: readonly string[]): T {
  if (typeof options !== 'object' || options === null)
    throw new ArgumentError(what, 'options', `an object such as { ${names[0]} }`, describe(options))
  for (const name of Object.keys(options))
    if (!names.includes(name)) throw new ArgumentError(what, name, `one of ${names.join(', ')}`, `'${name}'`)
  return options
}

/** A value as messages show it. */
export function describe(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Object.prototype.toString.call(value).slice(8, -1)
  return inspect(value)
}
