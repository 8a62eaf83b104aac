// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { field, half, joined, unpack } from './block-fields'
import type { Aten } from './card'
import { kBlocks } from './k-blocks'

/** A type of ggml's as its file format numbers it (`GGMLQuantizationType` in the GGUF specification). */
export interface BlockType {
  readonly name: string
  readonly type: number
  /** Elements of a block. */
  readonly elements: number
  /** Bytes of a block. */
  readonly bytes: number
  /** The bytes of a block that hold the exponents of its floating-point numbers: any others there might be infinity or NaN. */
  readonly exponents: readonly number[]
  /** The elements of `blocks` [count, bytes] as [count, elements] in float32, or in a dtype that float32 holds. */
  decode(aten: Aten, blocks: Tensor): Tensor
}

function plain(name: string, type: number, dtype: 'float32' | 'float16' | 'bfloat16'): BlockType {
  const size = dtype === 'float32' ? 4 : 2
  return {
    name,
    type,
    elements: 1,
    bytes: size,
    exponents: [size - 1],
    decode: (aten, blocks) => field(aten, blocks, 0, size, dtype),
  }
}

/** 16 bytes from `start` on as 32 numbers of four bits: the low halves are the first 16, the high halves the others. */
function nibbles(aten: Aten, blocks: Tensor, start: number): Tensor {
  return unpack(aten, blocks, start, 16, 4, 16)
}

/** The same with fifth bits, those of element i in bit i of the four bytes before them; float32. */
function withFifthBits(aten: Aten, blocks: Tensor, start: number): Tensor {
  return joined(aten, nibbles(aten, blocks, start), unpack(aten, blocks, start - 4, 4, 1, 1), 4)
}

/**
 * The types that `ggml_dequantize` knows, from the block structs of the ggml library. Quantized ones have 32 elements that share a scale d
 * (float16, first in the block) and, in Q4_1 and Q5_1, a minimum m (float16, behind it), or are K blocks.
 */
export const blockTypes: readonly BlockType[] = [
  plain('F32', 0, 'float32'),
  plain('F16', 1, 'float16'),
  {
    name: 'Q4_0',
    type: 2,
    elements: 32,
    bytes: 18,
    exponents: [1],
    // d * (q - 8)
    decode(aten, blocks) {
      return aten(
        'mul.Tensor',
        aten('sub.Scalar', nibbles(aten, blocks, 2).to('float32'), 8),
        half(aten, blocks, 0),
      )
    },
  },
  {
    name: 'Q4_1',
    type: 3,
    elements: 32,
    bytes: 20,
    exponents: [1, 3],
    // d * q + m
    decode(aten, blocks) {
      const product = aten('mul.Tensor', nibbles(aten, blocks, 4).to('float32'), half(aten, blocks, 0))
      return aten('add.Tensor', product, half(aten, blocks, 2))
    },
  },
  {
    name: 'Q5_0',
    type: 6,
    elements: 32,
    bytes: 22,
    exponents: [1],
    // d * (q - 16)
    decode(aten, blocks) {
      const q = withFifthBits(aten, blocks, 6)
      return aten('mul.Tensor', aten('sub.Scalar', q, 16), half(aten, blocks, 0))
    },
  },
  {
    name: 'Q5_1',
    type: 7,
    elements: 32,
    bytes: 24,
    exponents: [1, 3],
    // d * q + m
    decode(aten, blocks) {
      const q = withFifthBits(aten, blocks, 8)
      return aten('add.Tensor', aten('mul.Tensor', q, half(aten, blocks, 0)), half(aten, blocks, 2))
    },
  },
  {
    name: 'Q8_0',
    type: 8,
    elements: 32,
    bytes: 34,
    exponents: [1],
    // d * q
    decode(aten, blocks) {
      return aten('mul.Tensor', field(aten, blocks, 2, 32, 'int8').to('float32'), half(aten, blocks, 0))
    },
  },
  ...kBlocks,
  plain('BF16', 30, 'bfloat16'),
]

/** The type of a number. */
export function blockType(type: number | bigint): BlockType {
  const found = blockTypes.find((candidate) => candidate.type === Number(type))
  if (!found)
    throw new RangeError(`ggml type ${type} is none of ${blockTypes.map(({ name }) => name).join(', ')}`)
  return found
}
