// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { FloatDType } from './card'

/** Where fills draw numbers from: the same ones in every run. */
export interface Random {
  /** From 0 to before 1. */
  uniform(): number
  /** A whole number from `from` to before `to`. */
  integer(from: number, to: number): number
  /** N(0, 1). */
  normal(): number
}

/** The element at each place of a tensor, in row-major order. Called once per element, in that order. */
export type Fill = (index: number, random: Random) => number

/** A tensor to be made for a case. */
export interface TensorSpec {
  readonly shape: readonly number[]
  readonly dtype: DType
  readonly fill: Fill
  /** In elements; row-major without gaps where absent. */
  readonly strides?: readonly number[]
  /** How many elements the first one lies behind a 64-byte boundary. */
  readonly offset?: number
  /** For a tensor that lies in the CPU's memory wherever the others are. */
  readonly device?: 'cpu'
}

/** Where a tensor's elements lie. */
export type Layout = Pick<TensorSpec, 'strides' | 'offset'>

/** N(0, 1): large enough that a value read from the wrong place shows. */
export const normal: Fill = (_, random) => random.normal()

/** NaN: an output's content before the call, which must not survive. */
export const garbage: Fill = () => Number.NaN

/** The same values again and again. */
export function cycle(values: readonly number[]): Fill {
  return (index) => values[index % values.length] ?? 0
}

/** Integers from `from` to before `to`. */
export function integers(from: number, to: number): Fill {
  return (_, random) => random.integer(from, to)
}

/** A tensor of N(0, 1). */
export function input(shape: readonly number[], dtype: DType, layout: Layout = {}): TensorSpec {
  return { shape, dtype, fill: normal, ...layout }
}

/** A tensor that the op overwrites as a whole. */
export function output(shape: readonly number[], dtype: DType, layout: Layout = {}): TensorSpec {
  return { shape, dtype, fill: garbage, ...layout }
}

/** A tensor of given values. */
export function filled(shape: readonly number[], dtype: DType, fill: Fill | readonly number[]): TensorSpec {
  return { shape, dtype, fill: typeof fill === 'function' ? fill : cycle(fill) }
}

/** The strides of a tensor whose last dimension is a part of a wider one: `gap` elements lie between neighbouring rows. */
export function gapped(shape: readonly number[], gap: number): Layout {
  const strides: number[] = []
  let next = 1
  for (let i = shape.length - 1; i >= 0; i--) {
    strides.unshift(next)
    next = next * (shape[i] ?? 1) + (i === shape.length - 1 ? gap : 0)
  }
  return { strides }
}

/** The layout of a tensor whose entries of the first dimension are dense, with `gap` elements between neighbours. */
export function apart(shape: readonly number[], gap: number): Layout {
  const [stride = 0, ...inner] = gapped(shape, 0).strides ?? []
  return { strides: [stride + gap, ...inner] }
}

/** The layouts that a tensor of rows can have: dense, a part of wider rows, and off every vector's alignment. */
export function layouts(
  shape: readonly number[],
): readonly { readonly name: string; readonly layout: Layout }[] {
  return [
    { name: 'contiguous', layout: {} },
    { name: 'strided', layout: gapped(shape, 24) },
    { name: 'misaligned', layout: { offset: 1 } },
    { name: 'strided by an odd number, misaligned', layout: { ...gapped(shape, 3), offset: 1 } },
  ]
}

/** Another dtype than this one, and one that kernels compute in. */
export function otherDType(dtype: FloatDType): FloatDType {
  return dtype === 'float32' ? 'bfloat16' : 'float32'
}

const LIMITS: Readonly<Record<FloatDType, { largest: number; normal: number; subnormal: number }>> = {
  float32: { largest: (2 - 2 ** -23) * 2 ** 127, normal: 2 ** -126, subnormal: 2 ** -149 },
  float16: { largest: 65504, normal: 2 ** -14, subnormal: 2 ** -24 },
  bfloat16: { largest: (2 - 2 ** -7) * 2 ** 127, normal: 2 ** -126, subnormal: 2 ** -133 },
}

/** The values that arithmetic treats specially: zeros, infinities, NaN, the largest and smallest, and where exp saturates. */
export function extremes(dtype: FloatDType): readonly number[] {
  const { largest, normal, subnormal } = LIMITS[dtype]
  const positive = [0, 1, 20, 100, largest, normal, subnormal, Number.POSITIVE_INFINITY]
  return [...positive, ...positive.map((value) => -value), Number.NaN]
}
