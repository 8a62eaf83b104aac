// SPDX-License-Identifier: Apache-2.0
import {
  type AnyCard,
  evaluate,
  type FloatDType,
  isWrite,
  type OpArgument,
  parseSchema,
  scope,
  Tensor,
  type Tolerance,
  torch,
} from '@vllm-ops/core'

/** The step from 1 to the next number, and the least number whose steps are still as fine against it. */
const FORMATS: Readonly<Record<FloatDType, { epsilon: number; normal: number }>> = {
  float32: { epsilon: 2 ** -23, normal: 2 ** -126 },
  float16: { epsilon: 2 ** -10, normal: 2 ** -14 },
  bfloat16: { epsilon: 2 ** -7, normal: 2 ** -126 },
}

/** How a call is checked. */
export interface CheckOptions {
  /** What the reference computes in. */
  readonly wide?: 'float32' | 'float64'
  /** Error beyond the card's tolerance, which is for the sizes of its cases. */
  readonly absolute?: number
}

/**
 * Makes a call once and compares everything that it writes or returns with the card's reference, within the card's tolerance. The
 * reference runs in `wide`: float64 for float32 calls, else in float32 where nothing is said. Throws where they differ: a wrong kernel's time is worth nothing.
 */
export function checkCall(
  card: AnyCard,
  args: readonly OpArgument[],
  call: (...args: OpArgument[]) => unknown,
  dtype: FloatDType,
  { wide = dtype === 'float32' ? 'float64' : 'float32', absolute = 0 }: CheckOptions = {},
): void {
  scope(() => {
    const allowed = card.tolerance[dtype]
    const tolerance = { ulps: allowed.ulps, absolute: allowed.absolute + absolute }
    const schema = parseSchema(card.schema)
    const reference = args.map((arg) =>
      arg instanceof Tensor ? (arg.dtype === dtype ? arg.to(wide) : arg.clone()) : arg === dtype ? wide : arg,
    )
    const returned = call(...args)
    const expected = evaluate(card, reference)
    schema.arguments.forEach((argument, i) => {
      const [actual, exact] = [args[i], reference[i]]
      if (isWrite(argument) && actual instanceof Tensor && exact instanceof Tensor)
        requireClose(`${card.schema}: '${argument.name}'`, actual, exact, tolerance, dtype)
    })
    if (returned instanceof Tensor && expected instanceof Tensor)
      requireClose(`${card.schema}: the result`, returned, expected, tolerance, dtype)
  })
}

/** Throws where a result of a dtype is farther from the exact one than it may be: a wrong kernel's time is worth nothing. */
export function requireClose(
  what: string,
  actual: Tensor,
  exact: Tensor,
  { ulps, absolute }: Pick<Tolerance, 'ulps' | 'absolute'>,
  dtype: FloatDType,
): void {
  const { aten } = torch
  const { epsilon, normal } = FORMATS[dtype]
  const difference = aten.abs(aten.sub(actual.to(exact.dtype), exact))
  // An ulp of x is at most |x| times epsilon.
  const size = aten.clamp_min!(aten.abs(exact), normal)
  const allowed = aten.add(aten.mul(size, ulps * epsilon), absolute)
  if (aten.all(aten.le(difference, allowed)).item() !== true)
    throw new Error(`${what} is up to ${aten.max(difference).item()} off the reference; nothing was measured`)
}
