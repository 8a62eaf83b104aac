// SPDX-License-Identifier: Apache-2.0
//
// Whether two tensors are the same within a tolerance, and where they differ most. For tests.
import type { DType } from './dtype'
import { ArgumentError, VllmOpsError } from './errors'
import { isComplex } from './json'
import { callOperator } from './operator'
import { checked } from './options'
import { scope } from './scope'
import { Tensor } from './tensor'

/** What counts as close: |actual - expected| ≤ atol + rtol · |expected|. */
export interface CloseOptions {
  /** The relative part; by the coarser dtype of both where nothing is said, as `torch.testing.assert_close` has it. */
  readonly rtol?: number
  /** The absolute part, likewise. */
  readonly atol?: number
  /** NaN is close to NaN. */
  readonly equalNan?: boolean
}

/** How two tensors differ. */
export interface Difference {
  /** All of it in words: how many elements, and where the largest differences are. */
  readonly message: string
  /** How many elements are not close; all of them where the shapes differ. */
  readonly count: number
  /** The position of the largest absolute difference (of NaN or infinity, if there is one); nothing where the shapes differ. */
  readonly index: readonly number[] | undefined
  /** The largest absolute difference. */
  readonly absolute: number
  /** The largest difference by the size of what was expected. */
  readonly relative: number
}

/** rtol and atol of a dtype: those of `torch.testing.assert_close`. Integers and booleans are compared exactly. */
function toleranceOf(dtype: DType): readonly [number, number] {
  switch (dtype) {
    case 'float64':
    case 'complex128':
      return [1e-7, 1e-7]
    case 'float32':
    case 'complex64':
      return [1.3e-6, 1e-5]
    case 'float16':
      return [1e-3, 1e-5]
    case 'bfloat16':
      return [1.6e-2, 1e-5]
    default:
      // An 8-bit float has two or three bits of fraction.
      return dtype.startsWith('float8') ? [0.25, 1e-5] : [0, 0]
  }
}

/** Whether two tensors of one shape are close, element by element. Dtypes and devices may differ. */
export function allClose(actual: Tensor, expected: Tensor, options: CloseOptions = {}): boolean {
  return difference(actual, expected, options) === undefined
}

/**
 * Throws when two tensors are not close.
 *
 * @throws {VllmOpsError} `E_NOT_CLOSE`, whose message says where they differ most
 */
export function assertClose(actual: Tensor, expected: Tensor, options: CloseOptions = {}): void {
  const found = difference(actual, expected, options)
  if (found) throw new VllmOpsError('E_NOT_CLOSE', found.message)
}

/** How two tensors differ; nothing where they are close. */
export function difference(
  actual: Tensor,
  expected: Tensor,
  options: CloseOptions = {},
): Difference | undefined {
  for (const [name, value] of Object.entries({ actual, expected }))
    if (!(value instanceof Tensor)) throw new ArgumentError('difference', name, 'a tensor', String(value))
  const { equalNan = false } = checked('difference', options, ['rtol', 'atol', 'equalNan'])
  const defaults = [actual, expected].map(({ dtype }) => toleranceOf(dtype))
  const { rtol = Math.max(...defaults.map(([r]) => r)), atol = Math.max(...defaults.map(([, a]) => a)) } =
    options
  if (`${actual.shape}` !== `${expected.shape}`)
    return {
      message: `the tensors differ in shape: ${actual}, expected ${expected}`,
      count: Math.max(actual.numel, expected.numel),
      index: undefined,
      absolute: Number.NaN,
      relative: Number.NaN,
    }
  return scope(() => compared(actual, expected, rtol, atol, equalNan))
}

function compared(
  actual: Tensor,
  expected: Tensor,
  rtol: number,
  atol: number,
  equalNan: boolean,
): Difference | undefined {
  const op = (name: string, ...args: unknown[]) => callOperator(`aten::${name}`, ...args) as Tensor
  const [a, b] = [wide(actual), wide(expected)]
  const size = op('abs', b)
  const distance = op('abs', op('sub.Tensor', a, b))
  const allowed = op('add.Scalar', op('mul.Scalar', size, rtol), atol)
  // Infinities are equal though their distance is NaN; integers beyond 2^53 are compared as what they are.
  // An infinite distance is within nothing, though the allowance of an infinity is infinite too. Infinities of one sign are equal;
  // integers beyond 2^53 are compared as what they are.
  const within = op('logical_and', op('le.Tensor', distance, allowed), op('isfinite', distance))
  let close = sameIntegers(actual, expected) ?? op('logical_or', within, op('eq.Tensor', a, b))
  if (equalNan) close = op('logical_or', close, op('logical_and', op('isnan', a), op('isnan', b)))
  const count = actual.numel - Number(op('sum', close).item())
  if (count === 0) return undefined
  const measured = (values: Tensor) => {
    const wrong = op('masked_fill.Scalar', op('nan_to_num', values, Number.POSITIVE_INFINITY), close, -1)
    const place = Number(op('argmax', wrong).item())
    return { place, value: Number(wrong.view([-1]).select(0, place).item()) }
  }
  const absolute = measured(distance)
  const relative = measured(op('div.Tensor', distance, size))
  const at = (tensor: Tensor, place: number) => elementText(tensor, place)
  const { shape, numel } = actual
  const index = coordinates(absolute.place, shape)
  const share = ((100 * count) / numel).toPrecision(3)
  const limit = (place: number) => allowed.view([-1]).select(0, place).item()
  const line = (what: string, place: number, value: number) =>
    `  ${what} at [${coordinates(place, shape).join(', ')}]: ${at(actual, place)}, expected ${at(expected, place)} ` +
    `(by ${Number(value.toPrecision(6))}`
  const message =
    `${count} of ${numel} elements are not close (${share} %) in ${actual}, expected ${expected}\n` +
    `${line('most', absolute.place, absolute.value)}, allowed ${Number(Number(limit(absolute.place)).toPrecision(6))})\n` +
    `${line('most for its size', relative.place, relative.value)} of it, allowed rtol ${rtol}, atol ${atol})`
  return { message, count, index, absolute: absolute.value, relative: relative.value }
}

/** In the widest dtype, on the CPU, dense. */
function wide(tensor: Tensor): Tensor {
  const dtype = isComplex(tensor.dtype) ? 'complex128' : 'float64'
  return tensor.to({ dtype, device: 'cpu' }).contiguous()
}

/** Where two tensors of integers of one dtype are equal; nothing for other tensors. */
function sameIntegers(actual: Tensor, expected: Tensor): Tensor | undefined {
  if (!/^u?int64$/.test(actual.dtype) || actual.dtype !== expected.dtype) return undefined
  const [a, b] = [actual.to({ device: 'cpu' }), expected.to({ device: 'cpu' })]
  return callOperator('aten::eq.Tensor', a.contiguous(), b.contiguous()) as Tensor
}

function elementText(tensor: Tensor, place: number): string {
  return String(tensor.to({ device: 'cpu' }).contiguous().view([-1]).select(0, place).item())
}

/** The index in each dimension of the element at `place` in row-major order. */
function coordinates(place: number, shape: readonly number[]): number[] {
  const result: number[] = []
  let rest = place
  for (const size of shape.toReversed()) {
    result.unshift(rest % size)
    rest = Math.floor(rest / size)
  }
  return result
}
