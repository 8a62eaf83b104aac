// SPDX-License-Identifier: Apache-2.0
import {
  bfloat16ToNumber,
  type FloatDType,
  float16ToNumber,
  numberToBfloat16,
  numberToFloat16,
  type Tolerance,
} from '@vllm-ops/core'
import { coordinates } from './guarded'

interface Format {
  /** Bits of the significand, the leading one included. */
  readonly precision: number
  /** The exponent of the smallest normal number. */
  readonly minExponent: number
  readonly maxExponent: number
  round(value: number): number
}

const FORMATS: Readonly<Record<FloatDType, Format>> = {
  float32: { precision: 24, minExponent: -126, maxExponent: 127, round: Math.fround },
  float16: {
    precision: 11,
    minExponent: -14,
    maxExponent: 15,
    round: (value) => float16ToNumber(numberToFloat16(value)),
  },
  bfloat16: {
    precision: 8,
    minExponent: -126,
    maxExponent: 127,
    round: (value) => bfloat16ToNumber(numberToBfloat16(value)),
  },
}

const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)

/** floor(log2(|value|)) of a normal double, from its bits. */
function exponentOf(value: number): number {
  double[0] = value
  return (((words[1] ?? 0) >>> 20) & 0x7ff) - 1023
}

/** The distance of neighbouring numbers of a dtype around `value`. */
export function ulp(value: number, dtype: FloatDType): number {
  const { precision, minExponent, maxExponent } = FORMATS[dtype]
  const exponent = Math.min(maxExponent, Math.max(minExponent, exponentOf(value)))
  return 2 ** (exponent - precision + 1)
}

/** How a result is judged: within a tolerance, or the nearest number of the dtype. */
export type Criterion = Tolerance | 'nearest'

function isRight(received: number, exact: number, dtype: FloatDType, criterion: Criterion): boolean {
  if (Object.is(received, exact)) return true
  if (Number.isNaN(exact) || Number.isNaN(received)) return Number.isNaN(exact) && Number.isNaN(received)
  if (!Number.isFinite(exact)) return false
  const { precision, maxExponent, round } = FORMATS[dtype]
  // An ulp is more than this part of the number, which most results are within: the exact ulp is needed for few.
  const least = Math.abs(exact) * 2 ** -precision
  if (criterion !== 'nearest' && Math.abs(received - exact) <= criterion.ulps * least + criterion.absolute)
    return true
  const unit = ulp(exact, dtype)
  if (criterion === 'nearest') {
    if (round(exact) === exact) return false
    // A sum that is rounded to float32 before it is rounded to 16 bits may miss the nearer neighbour by next to nothing.
    return Math.abs(received - exact) <= unit * (0.5 + 2 ** -12)
  }
  const allowed = criterion.ulps * unit + criterion.absolute
  if (Number.isFinite(received)) return Math.abs(received - exact) <= allowed
  // Infinity stands for everything from half an ulp above the largest number on.
  const overflow = 2 ** maxExponent * (2 - 2 ** -precision)
  return Math.sign(received) === Math.sign(exact) && Math.abs(exact) + allowed >= overflow
}

/** Says what is wrong with a result, or nothing. `exact` are the right values, not rounded. */
export function compare(
  received: Float64Array,
  exact: Float64Array,
  shape: readonly number[],
  dtype: FloatDType,
  criterion: Criterion,
): string | undefined {
  let wrong = 0
  let worst = -1
  let worstError = -1
  for (let i = 0; i < exact.length; i++) {
    const expected = exact[i] ?? 0
    const actual = received[i] ?? 0
    if (isRight(actual, expected, dtype, criterion)) continue
    wrong++
    const error = Math.abs(actual - expected) / ulp(expected, dtype)
    const weight = Number.isFinite(error) ? error : Number.MAX_VALUE
    if (weight > worstError) {
      worst = i
      worstError = weight
    }
  }
  if (wrong === 0) return undefined
  const expected = exact[worst] ?? 0
  const allowed =
    criterion === 'nearest'
      ? 'the nearest number'
      : `${criterion.ulps} ulp${criterion.absolute ? ` + ${criterion.absolute}` : ''}`
  const distance =
    worstError < Number.MAX_VALUE ? ` (${Number(worstError.toPrecision(3))} ulp of ${dtype} apart)` : ''
  return (
    `[${coordinates(worst, shape).join(', ')}]: expected ${FORMATS[dtype].round(expected)} from ${expected}, ` +
    `received ${received[worst]}${distance}; allowed: ${allowed}; ${wrong} of ${exact.length} elements are wrong`
  )
}
