// SPDX-License-Identifier: Apache-2.0
import { type DType, isDType } from './dtype'
import { Complex } from './encoding'
import { ArgumentError } from './errors'
import type { NestedArray, Tensor } from './tensor'

/** A number of JSON; as text where JSON has none: `NaN`, `Infinity`, `-Infinity`, `-0`, and integers beyond 2^53. */
export type NumberJSON = number | boolean | 'NaN' | 'Infinity' | '-Infinity' | '-0' | `${bigint}`

/** Nested arrays of a tensor's elements; a complex element is an array of two. */
export type ElementsJSON = NumberJSON | readonly ElementsJSON[]

/** A tensor as JSON. */
export interface TensorJSON {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly data: ElementsJSON
}

/** @internal `Tensor.toJSON`. */
export function jsonOf(tensor: Tensor): TensorJSON {
  const { dtype, shape } = tensor
  return { dtype, shape, data: write(tensor.toArray()) }
}

function write(value: NestedArray): ElementsJSON {
  if (Array.isArray(value)) return value.map(write)
  if (value instanceof Complex) return [write(value.re), write(value.im)]
  if (typeof value === 'boolean') return value
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : `${value}`
  if (Number.isFinite(value)) return Object.is(value, -0) ? '-0' : value
  return String(value) as 'NaN' | 'Infinity' | '-Infinity'
}

/** @internal The elements of `TensorJSON` as `tensor` takes them, those of integer dtypes as bigints. */
export function elementsOf(json: TensorJSON): { data: NestedArray; dtype: DType; shape: readonly number[] } {
  const fail = (argument: string, expected: string, received: unknown): never => {
    throw new ArgumentError('fromJSON', argument, expected, String(JSON.stringify(received)))
  }
  if (typeof json !== 'object' || json === null) fail('json', 'what toJSON() returned', json)
  const { dtype, shape, data } = json
  if (!isDType(dtype)) fail('dtype', "a dtype such as 'float32'", dtype)
  if (!Array.isArray(shape) || !shape.every((size) => Number.isSafeInteger(size) && size >= 0))
    fail('shape', 'an array of sizes', shape)
  const whole = /^u?int/.test(dtype)
  const read = (value: unknown): NestedArray => {
    if (Array.isArray(value)) return value.map(read)
    if (typeof value === 'boolean' || (typeof value === 'number' && !whole)) return value
    if (whole && (typeof value === 'number' ? Number.isSafeInteger(value) : /^-?\d+$/.test(String(value))))
      return BigInt(value as number | string)
    if (!whole && (value === 'NaN' || value === '-0' || /^-?Infinity$/.test(String(value))))
      return Number(value)
    return fail('data', `elements of ${dtype}`, value)
  }
  return { data: read(data), dtype, shape }
}

/** Whether elements come in pairs. */
export function isComplex(dtype: DType): boolean {
  return dtype === 'complex64' || dtype === 'complex128'
}
