// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { Tensor } from '../tensor'
import type { Aten } from './card'

/** `count` bytes of each of `blocks` [blocks, bytes] from `start` on, as elements of a dtype. */
export function field(aten: Aten, blocks: Tensor, start: number, count: number, dtype: DType): Tensor {
  // A copy of its own begins where its dtype may.
  const bytes = aten('clone', aten('narrow', blocks, 1, start, count), { memory_format: 'contiguous_format' })
  return aten('view.dtype', bytes, dtype)
}

/** The float16 number at `start` of each block, as float32 [blocks, 1]. */
export function half(aten: Aten, blocks: Tensor, start: number): Tensor {
  return field(aten, blocks, start, 2, 'float16').to('float32')
}

/** Of each byte, `bits` bits from bit `shift` on. */
export function bitsFrom(aten: Aten, packed: Tensor, shift: number, bits: number): Tensor {
  return aten('bitwise_and.Scalar', aten('bitwise_right_shift.Tensor_Scalar', packed, shift), 2 ** bits - 1)
}

/**
 * The numbers of `bits` bits in `count` bytes of each block from `start` on, uint8 [blocks, 8 count / bits]: the lowest bits of `run` bytes,
 * then their next ones, then those of the next `run` bytes.
 */
export function unpack(
  aten: Aten,
  blocks: Tensor,
  start: number,
  count: number,
  bits: number,
  run: number,
): Tensor {
  const packed = field(aten, blocks, start, count, 'uint8').reshape([-1, count / run, run])
  const shifts = Array.from({ length: 8 / bits }, (_, i) => i * bits)
  const numbers = shifts.map((shift) => bitsFrom(aten, packed, shift, bits))
  return aten<Tensor>('stack', numbers, 2).reshape([-1, (8 * count) / bits])
}

/** `high * 2^shift + low` of bytes, as float32. */
export function joined(aten: Aten, low: Tensor, high: Tensor, shift: number): Tensor {
  return aten('add.Tensor', low.to('float32'), aten('mul.Scalar', high.to('float32'), 2 ** shift))
}
