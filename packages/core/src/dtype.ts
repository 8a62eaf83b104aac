// SPDX-License-Identifier: Apache-2.0

type Views =
  | typeof Float32Array
  | typeof Float64Array
  | typeof Uint8Array
  | typeof Int8Array
  | typeof Int16Array
  | typeof Uint16Array
  | typeof Int32Array
  | typeof Uint32Array
  | typeof BigInt64Array
  | typeof BigUint64Array

/**
 * Every dtype by PyTorch's name, with its number in `c10::ScalarType` (torch/headeronly/core/ScalarType.h) and the typed array that
 * shows its elements; dtypes that JavaScript has no number type for are shown as their raw bits.
 */
export const dtypes = {
  uint8: { code: 0, view: Uint8Array },
  int8: { code: 1, view: Int8Array },
  int16: { code: 2, view: Int16Array },
  int32: { code: 3, view: Int32Array },
  int64: { code: 4, view: BigInt64Array },
  float16: { code: 5, view: Uint16Array },
  float32: { code: 6, view: Float32Array },
  float64: { code: 7, view: Float64Array },
  complex64: { code: 9, view: Float32Array },
  complex128: { code: 10, view: Float64Array },
  bool: { code: 11, view: Uint8Array },
  bfloat16: { code: 15, view: Uint16Array },
  float8_e5m2: { code: 23, view: Uint8Array },
  float8_e4m3fn: { code: 24, view: Uint8Array },
  float8_e5m2fnuz: { code: 25, view: Uint8Array },
  float8_e4m3fnuz: { code: 26, view: Uint8Array },
  uint16: { code: 27, view: Uint16Array },
  uint32: { code: 28, view: Uint32Array },
  uint64: { code: 29, view: BigUint64Array },
} as const satisfies Record<string, { code: number; view: Views }>

/** The name of a dtype, as PyTorch spells it without `torch.`. */
export type DType = keyof typeof dtypes

/** The typed arrays that tensors share memory with. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array

const names = new Map<number, DType>(Object.entries(dtypes).map(([name, { code }]) => [code, name as DType]))

/** The dtype of a `c10::ScalarType` number; an unlisted one (quantized types, bits) reads `scalar_type_<n>`. */
export function dtypeOf(code: number): DType {
  return names.get(code) ?? (`scalar_type_${code}` as DType)
}

/** The dtype whose elements a typed array holds; `Uint8ClampedArray` counts as uint8, a Float16Array as float16. */
export function dtypeOfArray(array: ArrayBufferView): DType | undefined {
  switch (Object.prototype.toString.call(array).slice(8, -1)) {
    case 'Float32Array':
      return 'float32'
    case 'Float64Array':
      return 'float64'
    case 'Float16Array':
      return 'float16'
    case 'Uint8Array':
    case 'Uint8ClampedArray':
      return 'uint8'
    case 'Int8Array':
      return 'int8'
    case 'Int16Array':
      return 'int16'
    case 'Uint16Array':
      return 'uint16'
    case 'Int32Array':
      return 'int32'
    case 'Uint32Array':
      return 'uint32'
    case 'BigInt64Array':
      return 'int64'
    case 'BigUint64Array':
      return 'uint64'
    default:
      return undefined
  }
}

/** Whether a string names a dtype. */
export function isDType(name: unknown): name is DType {
  return typeof name === 'string' && Object.hasOwn(dtypes, name)
}

const word = new Uint32Array(1)
const float = new Float32Array(word.buffer)

/** The number of a bfloat16 (its upper half is a float32's). */
export function bfloat16ToNumber(bits: number): number {
  word[0] = bits << 16
  return float[0]!
}

/** The bits of the bfloat16 nearest to the float32 of a number, ties to even; NaN stays a (quiet) NaN. */
export function numberToBfloat16(value: number): number {
  float[0] = value
  const bits = word[0]!
  if (Number.isNaN(value)) return (bits >>> 16) | 0x40
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff
}

/** The number of an IEEE 754 binary16. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  if (exponent === 0) return sign * fraction * 2 ** -24
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

/** The nearest binary16's bits, ties to even, rounded once from the double. */
export function numberToFloat16(value: number): number {
  if (Number.isNaN(value)) return 0x7e00
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const magnitude = Math.abs(value)
  // 65520 is half way between the largest binary16 and the next power of two: it rounds to infinity.
  if (magnitude >= 65520) return sign | 0x7c00
  const exponent = magnitude < 2 ** -14 ? -14 : Math.floor(Math.log2(magnitude))
  const scaled = magnitude / 2 ** (exponent - 10)
  const lower = Math.floor(scaled)
  const rest = scaled - lower
  const rounded = rest > 0.5 || (rest === 0.5 && lower % 2 === 1) ? lower + 1 : lower
  // A subnormal has no implicit one: its exponent field is 0 and `rounded` is its fraction. A carry moves on by itself.
  return sign | (magnitude < 2 ** -14 ? rounded : ((exponent + 14) << 10) + rounded)
}

/** How an element of each 16-bit float is read and written. */
export const halfFloats = {
  float16: { decode: float16ToNumber, encode: numberToFloat16 },
  bfloat16: { decode: bfloat16ToNumber, encode: numberToBfloat16 },
} as const
