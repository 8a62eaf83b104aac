// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { Tensor } from '../tensor'
import type { Aten } from './card'

/** A type of ggml's as its file format numbers it (`GGMLQuantizationType` in the GGUF specification). */
export interface BlockType {
  readonly name: string
  readonly type: number
  /** Elements of a block. */
  readonly elements: number
  /** Bytes of a block. */
  readonly bytes: number
  /** The elements of `blocks` [count, bytes] as [count, elements] in float32, or in a dtype that float32 holds. */
  decode(aten: Aten, blocks: Tensor): Tensor
}

/** `count` bytes of each block from `start` on, as elements of a dtype. */
function field(aten: Aten, blocks: Tensor, start: number, count: number, dtype: DType): Tensor {
  // A copy of its own begins where its dtype may.
  const bytes = aten('clone', aten('narrow', blocks, 1, start, count), { memory_format: 'contiguous_format' })
  return aten('view.dtype', bytes, dtype)
}

/** 16 bytes from `start` on as 32 numbers of four bits: the low halves are the first 16, the high halves the others. */
function nibbles(aten: Aten, blocks: Tensor, start: number): Tensor {
  const packed = field(aten, blocks, start, 16, 'uint8')
  const low = aten('bitwise_and.Scalar', packed, 15)
  const high = aten('bitwise_right_shift.Tensor_Scalar', packed, 4)
  return aten('cat', [low, high], 1).to('float32')
}

function plain(name: string, type: number, dtype: 'float32' | 'float16' | 'bfloat16'): BlockType {
  const size = dtype === 'float32' ? 4 : 2
  return {
    name,
    type,
    elements: 1,
    bytes: size,
    decode: (aten, blocks) => field(aten, blocks, 0, size, dtype),
  }
}

/**
 * The types that `ggml_dequantize` knows, from the block structs of the ggml library. A block of a quantized type is 32 elements that
 * share a scale d (float16, first in the block) and, in Q4_1, a minimum m (float16, behind it).
 */
export const blockTypes: readonly BlockType[] = [
  plain('F32', 0, 'float32'),
  plain('F16', 1, 'float16'),
  {
    name: 'Q4_0',
    type: 2,
    elements: 32,
    bytes: 18,
    // d * (q - 8)
    decode(aten, blocks) {
      const d = field(aten, blocks, 0, 2, 'float16').to('float32')
      return aten('mul.Tensor', aten('sub.Scalar', nibbles(aten, blocks, 2), 8), d)
    },
  },
  {
    name: 'Q4_1',
    type: 3,
    elements: 32,
    bytes: 20,
    // d * q + m
    decode(aten, blocks) {
      const d = field(aten, blocks, 0, 2, 'float16').to('float32')
      const m = field(aten, blocks, 2, 2, 'float16').to('float32')
      return aten('add.Tensor', aten('mul.Tensor', nibbles(aten, blocks, 4), d), m)
    },
  },
  {
    name: 'Q8_0',
    type: 8,
    elements: 32,
    bytes: 34,
    // d * q
    decode(aten, blocks) {
      const d = field(aten, blocks, 0, 2, 'float16').to('float32')
      return aten('mul.Tensor', field(aten, blocks, 2, 32, 'int8').to('float32'), d)
    },
  },
  plain('BF16', 30, 'bfloat16'),
]

/** The type of a number. */
export function blockType(type: number | bigint): BlockType {
  const found = blockTypes.find((candidate) => candidate.type === Number(type))
  if (!found)
    throw new RangeError(`ggml type ${type} is none of ${blockTypes.map(({ name }) => name).join(', ')}`)
  return found
}
