// SPDX-License-Identifier: Apache-2.0
//
// Tensors out of values of JavaScript.
import { fromTypedArray } from './borrow'
import { type DType, dtypes, halfFloats, isDType, type TypedArray } from './dtype'
import { Complex } from './encoding'
import { ArgumentError } from './errors'
import type { TensorOptions } from './factories'
import { elementsOf, isComplex, type TensorJSON } from './json'
import { checked, describe } from './options'
import { scope } from './scope'
import type { NestedArray, Tensor } from './tensor'

/**
 * A tensor with the elements of nested arrays. All arrays of one depth have the same length. The dtype is float32 for numbers, int64 for
 * bigints, bool for booleans and complex64 for complex numbers where nothing else is said.
 *
 * @throws {ArgumentError} for arrays of different lengths, and for numbers that an integer dtype does not have
 */
export function tensor(data: NestedData, options: TensorOptions = {}): Tensor {
  const { device = 'cpu' } = checked('tensor', options, ['dtype', 'device'])
  const shape = shapeOf(data)
  const flat: unknown[] = []
  flatten(data, shape, 0, flat)
  return build(flat, shape, options.dtype ?? dtypeFor(flat[0]), device)
}

/** Nested arrays of numbers, bigints, booleans or complex numbers. */
export type NestedData = NestedArray | readonly NestedData[]

/**
 * The tensor that `Tensor.toJSON` wrote.
 *
 * @throws {ArgumentError} for anything else
 */
export function fromJSON(json: TensorJSON, options: { readonly device?: string } = {}): Tensor {
  const { device = 'cpu' } = checked('fromJSON', options, ['device'])
  const { data, dtype, shape } = elementsOf(json)
  const flat: unknown[] = []
  flatten(data, isComplex(dtype) ? [...shape, 2] : shape, 0, flat)
  if (!isComplex(dtype)) return build(flat, shape, dtype, device)
  const pairs: Complex[] = []
  for (let i = 0; i < flat.length; i += 2) pairs.push(new Complex(Number(flat[i]), Number(flat[i + 1])))
  return build(pairs, shape, dtype, device)
}

function dtypeFor(first: unknown): DType {
  if (typeof first === 'bigint') return 'int64'
  if (typeof first === 'boolean') return 'bool'
  return first instanceof Complex ? 'complex64' : 'float32'
}

function build(flat: readonly unknown[], shape: readonly number[], dtype: DType, device: string): Tensor {
  const stored = storedAs(dtype)
  return scope(() => {
    const local = fromTypedArray(elements(flat, dtype), shape, { dtype: stored, copy: true })
    const converted = stored === dtype ? local : local.to(dtype)
    return device === 'cpu' ? converted : converted.to({ device })
  })
}

/** Dtypes that JavaScript cannot write itself travel as float32. */
function storedAs(dtype: DType): DType {
  return `${dtype}`.startsWith('float8') ? 'float32' : dtype
}

function elements(flat: readonly unknown[], dtype: DType): TypedArray {
  const stored = storedAs(dtype)
  if (!isDType(stored))
    throw new ArgumentError('tensor', 'dtype', "a dtype such as 'float32'", describe(dtype))
  if (stored === 'complex64' || stored === 'complex128')
    return parts(flat, new dtypes[stored].view(2 * flat.length))
  const array = new dtypes[stored].view(flat.length)
  const big = array instanceof BigInt64Array || array instanceof BigUint64Array
  const half = stored === 'float16' || stored === 'bfloat16' ? halfFloats[stored].encode : undefined
  const range = integerRange(stored)
  for (let i = 0; i < flat.length; i++) {
    const value = flat[i]
    if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean')
      throw new ArgumentError('tensor', 'data', 'numbers, bigints or booleans', typeof value)
    const whole = typeof value !== 'number' || Number.isInteger(value)
    if (range && typeof value !== 'boolean' && !(whole && value >= range[0] && value <= range[1]))
      throw new ArgumentError(
        'tensor',
        'data',
        `integers of ${range.join(' to ')} for ${dtype}`,
        String(value),
      )
    if (big) array[i] = toBigInt(value)
    else array[i] = half ? half(Number(value)) : dtype === 'bool' ? Number(Boolean(value)) : Number(value)
  }
  return array
}

/** The least and the most number of an integer dtype; nothing for other dtypes. */
function integerRange(dtype: DType): readonly [bigint, bigint] | undefined {
  const [, unsigned, bits] = /^(u?)int(\d+)$/.exec(dtype) ?? []
  if (bits === undefined) return undefined
  const span = 1n << BigInt(bits)
  return unsigned ? [0n, span - 1n] : [-span / 2n, span / 2n - 1n]
}

/** Real and imaginary parts in turn. */
function parts(flat: readonly unknown[], array: Float32Array | Float64Array): TypedArray {
  for (const [i, value] of flat.entries()) {
    const pair = value instanceof Complex ? [value.re, value.im] : [Number(value), 0]
    if (!(value instanceof Complex) && typeof value !== 'number')
      throw new ArgumentError('tensor', 'data', 'numbers or complex numbers', describe(value))
    array.set(pair, 2 * i)
  }
  return array
}

function toBigInt(value: number | bigint | boolean): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new ArgumentError(
      'tensor',
      'data',
      'whole numbers up to 2^53, or bigints, for an integer dtype',
      String(value),
    )
  return BigInt(value)
}

function shapeOf(data: NestedData): number[] {
  const shape: number[] = []
  for (let level: NestedData | undefined = data; Array.isArray(level); level = level[0])
    shape.push(level.length)
  return shape
}

function flatten(data: NestedData, shape: readonly number[], depth: number, into: unknown[]): void {
  if (depth === shape.length) {
    if (Array.isArray(data))
      throw new ArgumentError('tensor', 'data', `${shape.length} dimensions`, 'a deeper array')
    into.push(data)
    return
  }
  if (!Array.isArray(data) || data.length !== shape[depth])
    throw new ArgumentError(
      'tensor',
      'data',
      `arrays of ${shape[depth]} in dimension ${depth}`,
      Array.isArray(data) ? `one of ${data.length}` : typeof data,
    )
  for (const item of data) flatten(item, shape, depth + 1, into)
}
