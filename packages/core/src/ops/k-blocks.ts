// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { bitsFrom, field, half, joined, unpack } from './block-fields'
import type { BlockType } from './block-types'
import type { Aten } from './card'

/** Elements of a K block. */
const ELEMENTS = 256

/** `scale * q - min` of `q` [blocks, elements], with a scale and a minimum for each group [blocks, groups]. */
function weights(aten: Aten, q: Tensor, scale: Tensor, min?: Tensor): Tensor {
  const [, groups = 1] = scale.shape
  const numbers = q.to('float32').reshape([-1, groups, ELEMENTS / groups])
  const product: Tensor = aten('mul.Tensor', numbers, aten('unsqueeze', scale, 2))
  const all: Tensor = min ? aten('sub.Tensor', product, aten('unsqueeze', min, 2)) : product
  return all.reshape([-1, ELEMENTS])
}

/**
 * `d * scale * q - dmin * min`, d and dmin being the first two numbers of a block, and eight scales and eight minima of six bits the 12 bytes
 * behind them.
 */
function weightsOfEight(aten: Aten, blocks: Tensor, q: Tensor): Tensor {
  const four = (start: number) => field(aten, blocks, start, 4, 'uint8')
  // Groups 0 to 3 have the low six bits of four bytes, 4 to 7 their high bits behind halves of the last four bytes.
  const sixBits = (start: number, shift: number) =>
    aten<Tensor>(
      'cat',
      [
        bitsFrom(aten, four(start), 0, 6).to('float32'),
        joined(aten, bitsFrom(aten, four(12), shift, 4), bitsFrom(aten, four(start), 6, 2), 4),
      ],
      1,
    )
  return weights(
    aten,
    q,
    aten('mul.Tensor', sixBits(4, 0), half(aten, blocks, 0)),
    aten('mul.Tensor', sixBits(8, 4), half(aten, blocks, 2)),
  )
}

/** The K types of ggml: blocks of 256 elements in 8 or 16 groups with scales of their own, from the block structs of the ggml library. */
export const kBlocks: readonly BlockType[] = [
  {
    name: 'Q2_K',
    type: 10,
    elements: ELEMENTS,
    bytes: 84,
    exponents: [81, 83],
    // scales [16], q [64], d, dmin: d * (scale & 15) * q - dmin * (scale >> 4)
    decode(aten, blocks) {
      const packed = field(aten, blocks, 0, 16, 'uint8')
      return weights(
        aten,
        unpack(aten, blocks, 16, 64, 2, 32),
        aten('mul.Tensor', bitsFrom(aten, packed, 0, 4), half(aten, blocks, 80)),
        aten('mul.Tensor', bitsFrom(aten, packed, 4, 4), half(aten, blocks, 82)),
      )
    },
  },
  {
    name: 'Q3_K',
    type: 11,
    elements: ELEMENTS,
    bytes: 110,
    exponents: [109],
    // high [32], q [64], scales [12], d: d * (scale - 32) * (q + 4 high - 4)
    decode(aten, blocks) {
      const scale = joined(aten, unpack(aten, blocks, 96, 8, 4, 8), unpack(aten, blocks, 104, 4, 2, 4), 4)
      const q = joined(aten, unpack(aten, blocks, 32, 64, 2, 32), unpack(aten, blocks, 0, 32, 1, 32), 2)
      return weights(
        aten,
        aten('sub.Scalar', q, 4),
        aten('mul.Tensor', aten('sub.Scalar', scale, 32), half(aten, blocks, 108)),
      )
    },
  },
  {
    name: 'Q4_K',
    type: 12,
    elements: ELEMENTS,
    bytes: 144,
    exponents: [1, 3],
    // d, dmin, scales and minima [12], q [128]: d * scale * q - dmin * min
    decode(aten, blocks) {
      return weightsOfEight(aten, blocks, unpack(aten, blocks, 16, 128, 4, 32))
    },
  },
  {
    name: 'Q5_K',
    type: 13,
    elements: ELEMENTS,
    bytes: 176,
    exponents: [1, 3],
    // d, dmin, scales and minima [12], high [32], q [128]: d * scale * (q + 16 high) - dmin * min
    decode(aten, blocks) {
      const q = joined(aten, unpack(aten, blocks, 48, 128, 4, 32), unpack(aten, blocks, 16, 32, 1, 32), 4)
      return weightsOfEight(aten, blocks, q)
    },
  },
  {
    name: 'Q6_K',
    type: 14,
    elements: ELEMENTS,
    bytes: 210,
    exponents: [209],
    // q [128], high [64], int8 scales [16], d: d * scale * (q + 16 high - 32)
    decode(aten, blocks) {
      const q = joined(aten, unpack(aten, blocks, 0, 128, 4, 64), unpack(aten, blocks, 128, 64, 2, 32), 4)
      const scales = field(aten, blocks, 192, 16, 'int8').to('float32')
      return weights(aten, aten('sub.Scalar', q, 32), aten('mul.Tensor', scales, half(aten, blocks, 208)))
    },
  },
]
