// SPDX-License-Identifier: Apache-2.0
import { ArgumentError, VllmOpsError } from '../errors'
import { NAMESPACE } from '../native'
import { callOperator, type OpArgument } from '../operator'
import { parseSchema } from '../schema'
import { scope } from '../scope'
import { Tensor } from '../tensor'
import type { AnyCard, Aten } from './card'
import { Expect } from './expect'

const aten: Aten = <R>(op: string, ...args: readonly unknown[]) => callOperator(`aten::${op}`, ...args) as R

/** The tensors of an argument, which is one, a list of them, or something else. */
function tensorsOf(arg: unknown): Tensor[] {
  return [arg].flat().filter((value) => value instanceof Tensor)
}

/**
 * Checks the arguments of a call as the op's kernels do: all tensors on one device, and what the card says.
 *
 * @throws {ArgumentError} for the first that is wrong
 */
export function checkArguments(card: AnyCard, args: readonly unknown[]): void {
  const schema = parseSchema(card.schema)
  const op = `${NAMESPACE}::${schema.name}`
  const device = args.flatMap(tensorsOf)[0]?.device
  for (const [i, { name }] of schema.arguments.entries()) {
    const stray = tensorsOf(args[i]).find((tensor) => tensor.device !== device)
    if (stray && !card.anyDevice?.includes(name))
      throw new ArgumentError(op, name, `a tensor on ${device}`, stray.device)
  }
  scope(() => card.check(new Expect(op), ...args))
}

/**
 * Runs an op's definition on the device of its arguments, without checks. What it makes on the way is freed.
 *
 * @throws {VllmOpsError} `E_NO_KERNEL` where the op has none
 */
export function evaluate(card: AnyCard, args: readonly unknown[]): unknown {
  return scope(() => {
    if (card.reference) return card.reference(aten, ...args)
    throw new VllmOpsError('E_NO_KERNEL', `${card.schema} has no definition in aten ops`)
  })
}

/**
 * An op's definition as a kernel for any device. The arguments are checked before anything is written, since aten would broadcast or resize
 * some that no kernel takes.
 */
export function definitionOf(card: AnyCard): (...args: OpArgument[]) => OpArgument {
  return (...args) => {
    checkArguments(card, args)
    return evaluate(card, args) as OpArgument
  }
}
