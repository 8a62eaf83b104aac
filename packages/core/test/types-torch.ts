// SPDX-License-Identifier: Apache-2.0
//
// What the compiler says about calls. Nothing here runs: types-torch.test.ts has the compiler check it, and it is part of `tsc --noEmit`.
import { type OpOverload, type OpOverloadPacket, ones, ops, type Tensor, torch, zeros } from '@vllm-ops/core'

const x: Tensor = ones([1])

/** Right calls. */
export function right(): void {
  ops.silu_and_mul(x, x)
  ops.rms_norm(x, x, x, 1e-5)
  const sum: Tensor = torch.aten.add(x, x, { alpha: 2 })
  const pair = torch.aten.sort<[Tensor, Tensor]>(x)
  const packet: OpOverloadPacket = torch.aten.add
  const overload: OpOverload | undefined = torch.aten.add.Tensor
  const other: OpOverloadPacket | undefined = torch.aten.no_such_op
  zeros([1], { dtype: 'bfloat16', device: 'cuda:0' })
  void [sum, pair[1], packet, overload, other]
}

/** Wrong calls: each line is an error. */
export function wrong(): void {
  // @ts-expect-error one argument is missing
  ops.silu_and_mul(x)
  // @ts-expect-error one argument is too many
  ops.silu_and_mul(x, x, x)
  // @ts-expect-error a number is no tensor
  ops.silu_and_mul(x, 1)
  // @ts-expect-error a string is no number
  ops.rms_norm(x, x, x, '1e-5')
  // @ts-expect-error null is no tensor
  ops.rms_norm(x, null, x, 1e-5)
  // @ts-expect-error there is no such op
  ops.silu(x)
  // @ts-expect-error it returns nothing
  ops.silu_and_mul(x, x).shape
  // @ts-expect-error a function is no argument
  torch.aten.add(x, () => x)
  // @ts-expect-error a date is no argument
  torch.aten.add(x, new Date())
  // @ts-expect-error no such dtype
  zeros([1], { dtype: 'float31' })
  // @ts-expect-error no such option
  zeros([1], { dtyp: 'int8' })
  // @ts-expect-error an op that isn't named in the types may be missing
  torch.aten.no_such_op(x)
}
