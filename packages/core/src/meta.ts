// SPDX-License-Identifier: Apache-2.0
//
// The meta device: tensors with a shape and no data. Ops on them tell the shape, strides and dtype of what they would make, and refuse what
// they refuse elsewhere, so that a whole model can be checked without its weights.
import { Library } from './library'
import { NAMESPACE, native } from './native'
import { callOperator, splitOverload } from './operator'
import { cards } from './ops'
import { definitionOf } from './ops/evaluate'
import type { Tensor } from './tensor'

/** Registers what the meta device lacks; once, when the addon starts. */
export function registerMeta(): void {
  // No backend has to say it again: here an op is its definition.
  const ours = new Library(NAMESPACE, 'IMPL')
  for (const card of cards)
    ours.impl(card.schema.slice(0, card.schema.indexOf('(')), definitionOf(card), 'Meta')
  const aten = new Library('aten', 'IMPL')
  for (const [name, kernel] of Object.entries(kernels))
    if (!native().hasKernel(...splitOverload(`aten::${name}`), 'Meta')) aten.impl(name, kernel, 'Meta')
}

/** Ops of PyTorch that models use and whose kernels for this device are written in Python. */
const kernels = {
  index_select: (self: Tensor, dim: number, index: Tensor) =>
    callOperator('aten::new_empty', self, selectedShape(self, dim, index)),
  'index_select.out': (self: Tensor, dim: number, index: Tensor, out: Tensor) =>
    callOperator('aten::resize_', out, selectedShape(self, dim, index)),
  'where.self': chosen,
  'where.self_out': (condition: Tensor, self: Tensor, other: Tensor, out: Tensor) =>
    callOperator('aten::resize_', out, chosen(condition, self, other).shape),
} as Readonly<Record<string, (...args: never[]) => Tensor>>

function selectedShape(self: Tensor, dim: number, index: Tensor): number[] {
  return self.shape.with(dim < 0 ? dim + self.shape.length : dim, index.numel)
}

/** The sum has the shape that all three broadcast to, and the dtype that the last two promote to. */
function chosen(condition: Tensor, self: Tensor, other: Tensor): Tensor {
  return callOperator('aten::add.Tensor', callOperator('aten::add.Tensor', self, other), condition) as Tensor
}
