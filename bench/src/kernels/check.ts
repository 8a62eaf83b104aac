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
  torch,
} from '@vllm-ops/core'

/** The step from 1 to the next number. */
const EPSILON: Readonly<Record<FloatDType, number>> = {
  float32: 2 ** -23,
  float16: 2 ** -10,
  bfloat16: 2 ** -7,
}

/**
 * Makes a call once and compares everything that it writes or returns with the card's reference, within the card's tolerance. The
 * reference runs in float64 for float32 calls, else in float32. Throws where they differ: a wrong kernel's time is worth nothing.
 */
export function checkCall(
  card: AnyCard,
  args: readonly OpArgument[],
  call: (...args: OpArgument[]) => unknown,
  dtype: FloatDType,
): void {
  scope(() => {
    const wide = dtype === 'float32' ? 'float64' : 'float32'
    const schema = parseSchema(card.schema)
    const reference = args.map((arg) =>
      arg instanceof Tensor ? (arg.dtype === dtype ? arg.to(wide) : arg.clone()) : arg === dtype ? wide : arg,
    )
    const returned = call(...args)
    const expected = evaluate(card, reference)
    schema.arguments.forEach((argument, i) => {
      const [actual, exact] = [args[i], reference[i]]
      if (isWrite(argument) && actual instanceof Tensor && exact instanceof Tensor)
        compare(card, argument.name, actual, exact, dtype)
    })
    if (returned instanceof Tensor && expected instanceof Tensor)
      compare(card, 'the result', returned, expected, dtype)
  })
}

function compare(card: AnyCard, what: string, actual: Tensor, exact: Tensor, dtype: FloatDType): void {
  const { ulps, absolute } = card.tolerance[dtype]
  const aten = torch.aten!
  const difference = aten.abs!(aten.sub!(actual.to(exact.dtype), exact))
  // An ulp of x is at most |x| times epsilon.
  const allowed = aten.add!(aten.mul!(aten.abs!(exact), ulps * EPSILON[dtype]), absolute)
  if (aten.all!(aten.le!(difference, allowed)).item() !== true)
    throw new Error(
      `${card.schema}: '${what}' is up to ${aten.max!(difference).item()} off the reference; nothing was measured`,
    )
}
