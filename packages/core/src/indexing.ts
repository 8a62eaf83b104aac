// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { ArgumentError } from './errors'
import { callOperator } from './operator'
import { scope } from './scope'
import { Tensor } from './tensor'

/** Every `step`-th entry of a dimension from `start` to before `end`; negative ones count from the end. */
export interface Slice {
  readonly start?: number
  readonly end?: number
  readonly step?: number
}

/** One index of `Tensor.index`. */
export type Index = number | Slice | Tensor | null | '...'

/** @internal `Tensor.index`. */
export function indexed(tensor: Tensor, indices: readonly Index[]): Tensor {
  return scope(() => {
    const { view, tensors } = basic('Tensor.index', tensor, indices)
    return tensors.length === 0 ? view : (callOperator('aten::index.Tensor', view, tensors) as Tensor)
  })
}

/** @internal `Tensor.indexPut_`. */
export function putIndexed(
  tensor: Tensor,
  indices: readonly Index[],
  value: Tensor | number | bigint | boolean,
): void {
  scope(() => {
    if (!Array.isArray(indices))
      throw new ArgumentError('Tensor.indexPut_', 'indices', 'an array of indices', inspect(indices))
    const { view, tensors } = basic('Tensor.indexPut_', tensor, indices)
    const isTensor = value instanceof Tensor
    if (tensors.length === 0) callOperator(isTensor ? 'aten::copy_' : 'aten::fill_.Scalar', view, value)
    else {
      const { dtype, device } = view
      const values = isTensor ? value : callOperator('aten::full', [], value, { dtype, device })
      callOperator('aten::index_put_', view, tensors, values)
    }
  })
}

/** The view of all indices but tensors, and the tensors with `null` for each dimension of it that none chooses from. */
function basic(
  what: string,
  tensor: Tensor,
  indices: readonly Index[],
): { view: Tensor; tensors: (Tensor | null)[] } {
  const { shape } = tensor
  const list = expanded(what, indices, shape.length)
  const tensors: (Tensor | null)[] = []
  let view = callOperator('aten::alias', tensor) as Tensor
  let dim = 0
  let covered = 0
  for (const [place, index] of list.entries()) {
    if (index instanceof Tensor) {
      for (; covered < dim; covered++) tensors.push(null)
      tensors.push(index)
      dim += consumed(index)
      covered = dim
    } else if (index === null) view = callOperator('aten::unsqueeze', view, dim++) as Tensor
    else if (typeof index === 'number')
      view = view.select(dim, positionOf(what, index, view.shape[dim]!, place))
    else view = view.slice(dim++, index.start, index.end, index.step)
  }
  return { view, tensors }
}

/** The indices with the dimensions that `'...'` stands for. */
function expanded(what: string, indices: readonly Index[], ndim: number): Exclude<Index, '...'>[] {
  let used = 0
  for (const [place, index] of indices.entries()) {
    if (!isIndex(index))
      throw new ArgumentError(
        what,
        'indices',
        "a whole number, { start, end, step }, null, '...' or a tensor",
        `${inspect(index, { depth: 0 })} at index ${place}`,
      )
    if (index !== null && index !== '...') used += index instanceof Tensor ? consumed(index) : 1
  }
  const gaps = indices.filter((index) => index === '...').length
  if (gaps > 1) throw new ArgumentError(what, 'indices', "one '...'", `${gaps}`)
  if (used > ndim) throw new ArgumentError(what, 'indices', `at most ${ndim} for this tensor`, `${used}`)
  const fill = Array.from({ length: ndim - used }, (): Slice => ({}))
  return indices.flatMap((index) => (index === '...' ? fill : [index]))
}

const SLICE = ['start', 'end', 'step']

function isIndex(index: unknown): index is Index {
  if (typeof index === 'number') return Number.isSafeInteger(index)
  if (index === null || index === '...' || index instanceof Tensor) return true
  return typeof index === 'object' && Object.keys(index).every((key) => SLICE.includes(key))
}

/** How many dimensions an index tensor chooses from: truths from as many as they have. */
function consumed(index: Tensor): number {
  return index.dtype === 'bool' ? index.ndim : 1
}

function positionOf(what: string, index: number, size: number, place: number): number {
  if (index < -size || index >= size)
    throw new ArgumentError(
      what,
      'indices',
      `a position of ${-size} to ${size - 1} at index ${place}`,
      `${index}`,
    )
  return index
}
