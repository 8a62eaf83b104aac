// SPDX-License-Identifier: Apache-2.0
//
// What the compiler says about calls once the ops of aten are declared. types-declared.test.ts has it check this beside a declaration
// made by `declareOps`; without one every wrong call passes, so this file is no part of `tsc --noEmit`.
import { ones, type Tensor, torch } from '@vllm-ops/core'

const x: Tensor = ones([2, 2])
const { aten } = torch

/** Right calls of fifty ops, none of them possibly undefined. */
export function right(): unknown[] {
  const [values, indices]: [Tensor, Tensor] = aten.topk(x, 1)
  const parts: Tensor[] = aten.split(x, 1)
  const same: boolean = aten.equal(x, x)
  const size: number | bigint = aten.size.int(x, 0)
  aten.copy_(x, x).shape
  return [
    values,
    indices,
    parts,
    same,
    size,
    aten.abs(x),
    aten.add(x, x, { alpha: 2 }),
    aten.add(x, 1),
    aten.add.out(x, x, { out: x }),
    aten.addmm(x, x, x),
    aten.amax(x, [0], true),
    aten.arange(4, { dtype: 'int64' }),
    aten.argmax(x, null),
    aten.bmm(x, x),
    aten.cat([x, x], 1),
    aten.clamp(x, 0, null),
    aten.clone(x, { memory_format: 'contiguous_format' }),
    aten.cos(x),
    aten.cumsum(x, 0),
    aten.div(x, x, { rounding_mode: 'floor' }),
    aten.embedding(x, x),
    aten.empty([2], { dtype: 'int8' }),
    aten.eq(x, 1),
    aten.exp(x),
    aten.fill_(x, 1n),
    aten.flip(x, [0]),
    aten.gather(x, 0, x),
    aten.gelu(x, { approximate: 'tanh' }),
    aten.index(x, [null, x]),
    aten.isnan(x),
    aten.layer_norm(x, [2]),
    aten.linear(x, x, null),
    aten.log(x),
    aten.masked_fill(x, x, 0),
    aten.matmul(x, x),
    aten.max(x),
    aten.mean(x),
    aten.mm(x, x),
    aten.mul(x, 2.5),
    aten.neg(x),
    aten.permute(x, [1, 0]),
    aten.pow(x, 2),
    aten.relu(x),
    aten.reshape(x, [4]),
    aten.rsqrt(x),
    aten.sigmoid(x),
    aten.silu(x),
    aten.softmax(x, -1),
    aten.sort(x),
    aten.sum(x, { dtype: 'float64' }),
    aten.tanh(x),
    aten.tril(x),
    aten.where(x, x, x),
    aten.avg_pool2d(x, 2),
    aten.constant_pad_nd(x, [1, 1]),
    aten.native_layer_norm(x, [2], null, null, 1e-5)[2],
  ]
}

/** Wrong calls: each line is an error. */
export function wrong(): void {
  // @ts-expect-error one argument is missing
  aten.mm(x)
  // @ts-expect-error one argument is too many
  aten.mm(x, x, x)
  // @ts-expect-error a number is no tensor
  aten.mm(x, 1)
  // @ts-expect-error null is no tensor here
  aten.relu(null)
  // @ts-expect-error no such option
  aten.add.Tensor(x, x, { alhpa: 2 })
  // @ts-expect-error no such dtype
  aten.sum(x, { dtype: 'float31' })
  // @ts-expect-error a string is no dimension
  aten.softmax.int(x, '0')
  // @ts-expect-error a list of strings is no shape
  aten.reshape(x, ['4'])
  // @ts-expect-error an out variant needs its output
  aten.add.out(x, x)
  // @ts-expect-error it returns a tensor
  const count: number = aten.abs(x)
  // @ts-expect-error it returns two
  aten.topk(x, 1).shape
  // @ts-expect-error there is no such overload
  aten.relu.Tensor(x)
  void count
}
