// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { Tensor } from '../tensor'
import type { FloatDType, TensorShape, Tolerance } from './card'

/** The dtype that references compute in: float64 for float64, else float32. */
export function wideDType(dtype: DType): 'float32' | 'float64' {
  return dtype === 'float64' ? 'float64' : 'float32'
}

/** A tensor in the dtype that references compute in. */
export function wide(tensor: Tensor): Tensor {
  return tensor.to(wideDType(tensor.dtype))
}

/** The product of sizes. */
export function product(sizes: readonly number[]): number {
  return sizes.reduce((total, size) => total * size, 1)
}

/** The size of the last dimension; 1 for a scalar. */
export function width(tensor: TensorShape): number {
  return tensor.shape.at(-1) ?? 1
}

/** A shape with another last dimension. */
export function withWidth(shape: readonly number[], size: number): number[] {
  return [...shape.slice(0, -1), size]
}

const ITEM_SIZES: readonly (readonly [RegExp, number])[] = [
  [/complex128$/, 16],
  [/64$/, 8],
  [/32$/, 4],
  [/16$/, 2],
]

/** The bytes of tensors, each read or written once. */
export function bytes(...tensors: readonly TensorShape[]): number {
  return tensors.reduce((total, { shape, dtype }) => {
    const size = ITEM_SIZES.find(([pattern]) => pattern.test(dtype))?.[1] ?? 1
    return total + product(shape) * size
  }, 0)
}

/**
 * The usual tolerance: 16-bit results are computed in float32 and rounded once, so either neighbour of the exact value is
 * right (an ulp) and nothing else; float32 results carry the error of the computation itself.
 */
export function roundedOnce(float32: Tolerance): Readonly<Record<FloatDType, Tolerance>> {
  const reason = `computed in float32 and rounded once: either neighbour of the exact value; in float32 ${float32.reason}`
  // The error that float32 arithmetic makes before the rounding, where it isn't small against an ulp of the result.
  const half = { ulps: 1, absolute: float32.absolute, reason }
  return { float32, float16: half, bfloat16: half }
}
