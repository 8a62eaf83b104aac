// SPDX-License-Identifier: Apache-2.0
import { ArgumentError } from '../errors'
import { NAMESPACE } from '../native'
import { callOperator } from '../operator'
import { parseSchema } from '../schema'
import { scope } from '../scope'
import { Tensor } from '../tensor'
import type { AnyCard, Aten } from './card'
import { Expect } from './expect'

const aten: Aten = <R>(op: string, ...args: readonly unknown[]) => callOperator(`aten::${op}`, ...args) as R

/**
 * Checks the arguments of a call as the op's kernels do: all tensors on one device, and what the card says.
 *
 * @throws {ArgumentError} for the first that is wrong
 */
export function checkArguments(card: AnyCard, args: readonly unknown[]): void {
  const schema = parseSchema(card.schema)
  const op = `${NAMESPACE}::${schema.name}`
  const device = args.find((arg) => arg instanceof Tensor)?.device
  for (const [i, { name }] of schema.arguments.entries()) {
    const arg = args[i]
    if (arg instanceof Tensor && arg.device !== device)
      throw new ArgumentError(op, name, `a tensor on ${device}`, arg.device)
  }
  scope(() => card.check(new Expect(op), ...args))
}

/** Runs an op's definition on the device of its arguments, without checks. What it makes on the way is freed. */
export function evaluate(card: AnyCard, args: readonly unknown[]): unknown {
  return scope(() => card.reference(aten, ...args))
}
