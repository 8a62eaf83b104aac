// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { field, half, split } from './block-fields'
import type { BlockType } from './block-types'
import type { Aten } from './card'

/** Elements of a K block. */
const ELEMENTS = 256

/** `scale * q - min` of `q` [blocks, groups, elements of a group], with a scale and a minimum for each group [blocks, groups]. */
function weights(aten: Aten, q: Tensor, scale: Tensor, min?: Tensor): Tensor {
  const product: Tensor = aten('mul.Tensor', q.to('float32'), aten('unsqueeze', scale, 2))
  const all: Tensor = min ? aten('sub.Tensor', product, aten('unsqueeze', min, 2)) : product
  return all.reshape([-1, ELEMENTS])
}

/** `high * 2^shift + low` of bytes, as float32. */
function joined(aten: Aten, low: Tensor, high: Tensor, shift: number): Tensor {
  return aten('add.Tensor', low.to('float32'), aten('mul.Scalar', high.to('float32'), 2 ** shift))
}

/** 64 bytes from `start` on as 256 numbers of two bits, [blocks, 8 runs of 32]: the four pairs of 32 bytes, then those of the others. */
function pairs(aten: Aten, blocks: Tensor, start: number): Tensor {
  const bytes = field(aten, blocks, start, 64, 'uint8').reshape([-1, 2, 32])
  return split(aten, bytes, 2, 2, [0, 2, 4, 6]).reshape([-1, 8, 32])
}

/** 32 bytes from `start` on as 256 bits, [blocks, 8 runs of 32]: the lowest bit of each byte first. */
function bits(aten: Aten, blocks: Tensor, start: number): Tensor {
  return split(aten, field(aten, blocks, start, 32, 'uint8'), 1, 1, [0, 1, 2, 3, 4, 5, 6, 7])
}

/** 128 bytes from `start` on as 256 numbers of four bits, [blocks, 8 runs of 32]: low and high halves of 32 bytes at a time. */
function runsOfNibbles(aten: Aten, blocks: Tensor, start: number): Tensor {
  const bytes = field(aten, blocks, start, 128, 'uint8').reshape([-1, 4, 32])
  return split(aten, bytes, 2, 4, [0, 4]).reshape([-1, 8, 32])
}

/** 12 bytes from byte 4 on as eight scales and eight minima of six bits, times d and dmin at bytes 0 and 2. */
function scalesAndMins(aten: Aten, blocks: Tensor): { scale: Tensor; min: Tensor } {
  const part = (start: number) => field(aten, blocks, start, 4, 'uint8')
  const of = (packed: Tensor, shift: number, count: number) =>
    split(aten, packed, 0, count, [shift]).reshape([-1, 4])
  // Groups 0 to 3 have the low six bits of bytes 0 to 3 and 4 to 7; 4 to 7 the halves of the last four bytes and the others' high bits.
  const last = part(12)
  const scale = aten(
    'cat',
    [of(part(4), 0, 6).to('float32'), joined(aten, of(last, 0, 4), of(part(4), 6, 2), 4)],
    1,
  )
  const min = aten(
    'cat',
    [of(part(8), 0, 6).to('float32'), joined(aten, of(last, 4, 4), of(part(8), 6, 2), 4)],
    1,
  )
  return {
    scale: aten('mul.Tensor', scale, half(aten, blocks, 0)),
    min: aten('mul.Tensor', min, half(aten, blocks, 2)),
  }
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
      const halves = split(aten, field(aten, blocks, 0, 16, 'uint8'), 0, 4, [0, 4]).to('float32')
      const [scales, mins] = [0, 1].map((i) => aten<Tensor>('select.int', halves, 0, i))
      const q = pairs(aten, blocks, 16).reshape([-1, 16, 16])
      return weights(
        aten,
        q,
        aten('mul.Tensor', scales, half(aten, blocks, 80)),
        aten('mul.Tensor', mins, half(aten, blocks, 82)),
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
      const low = split(aten, field(aten, blocks, 96, 8, 'uint8'), 1, 4, [0, 4]).reshape([-1, 16])
      const high = split(aten, field(aten, blocks, 104, 4, 'uint8'), 1, 2, [0, 2, 4, 6]).reshape([-1, 16])
      const scale = aten('sub.Scalar', joined(aten, low, high, 4), 32)
      const q = joined(aten, pairs(aten, blocks, 32), bits(aten, blocks, 0), 2)
      return weights(
        aten,
        aten<Tensor>('sub.Scalar', q, 4).reshape([-1, 16, 16]),
        aten('mul.Tensor', scale, half(aten, blocks, 108)),
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
      const { scale, min } = scalesAndMins(aten, blocks)
      return weights(aten, runsOfNibbles(aten, blocks, 16), scale, min)
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
      const { scale, min } = scalesAndMins(aten, blocks)
      const q = joined(aten, runsOfNibbles(aten, blocks, 48), bits(aten, blocks, 16), 4)
      return weights(aten, q, scale, min)
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
      // Of 64 bytes the low halves are two runs of 32, the high ones the next two.
      const low = split(aten, field(aten, blocks, 0, 128, 'uint8').reshape([-1, 2, 64]), 2, 4, [0, 4])
      const q = joined(aten, low.reshape([-1, 8, 32]), pairs(aten, blocks, 128), 4)
      const scales = field(aten, blocks, 192, 16, 'int8').to('float32')
      return weights(
        aten,
        aten<Tensor>('sub.Scalar', q, 32).reshape([-1, 16, 16]),
        aten('mul.Tensor', scales, half(aten, blocks, 208)),
      )
    },
  },
]
