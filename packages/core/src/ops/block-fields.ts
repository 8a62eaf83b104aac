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

/** Of each byte, the `bits` from each of `shifts` on: a new dimension `dim` with one entry for each shift. */
export function split(
  aten: Aten,
  packed: Tensor,
  dim: number,
  bits: number,
  shifts: readonly number[],
): Tensor {
  const parts = shifts.map((shift) =>
    aten<Tensor>(
      'bitwise_and.Scalar',
      aten('bitwise_right_shift.Tensor_Scalar', packed, shift),
      2 ** bits - 1,
    ),
  )
  return aten('stack', parts, dim)
}

/** 16 bytes from `start` on as 32 numbers of four bits, float32: the low halves are the first 16, the high halves the others. */
export function nibbles(aten: Aten, blocks: Tensor, start: number): Tensor {
  const halves = split(aten, field(aten, blocks, start, 16, 'uint8'), 1, 4, [0, 4])
  return halves.reshape([-1, 32]).to('float32')
}

/** 32 bits from `start` on, the lowest of the first byte first, each as 16 or 0 in float32. */
export function fifthBits(aten: Aten, blocks: Tensor, start: number): Tensor {
  const bits = split(aten, field(aten, blocks, start, 4, 'uint8'), 2, 1, [0, 1, 2, 3, 4, 5, 6, 7])
  return aten('mul.Scalar', bits.reshape([-1, 32]).to('float32'), 16)
}
