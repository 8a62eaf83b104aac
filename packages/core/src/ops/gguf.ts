// SPDX-License-Identifier: Apache-2.0
import { type BlockType, blockType, blockTypes } from './block-types'
import { defineOp, type FloatDType, floatDTypes } from './card'
import { type Fill, filled, type TensorSpec } from './case'
import { bytes, roundedOnce } from './math'

/** Random blocks whose scales and minima are finite float16 numbers of moderate size: their products with the largest q are too. */
function blocks(
  { bytes: size, exponents, elements }: BlockType,
  count: number,
  layout: Partial<TensorSpec> = {},
): TensorSpec {
  // The high byte of a little-endian float16: a sign, five bits of exponent of which the top and the bottom are avoided, two of fraction.
  const top = elements > 32 ? 16 : 20
  const exponentByte = (random: { integer(from: number, to: number): number }) =>
    random.integer(0, 2) * 128 + random.integer(8, top) * 4 + random.integer(0, 4)
  const fill: Fill = (index, random) =>
    exponents.includes(index % size) ? exponentByte(random) : random.integer(0, 256)
  return { ...filled([count * size], 'uint8', fill), ...layout }
}

/**
 * The elements of a matrix in one of ggml's formats, as GGUF files hold them; vLLM's `ggml_dequantize`.
 *
 * - `W`: uint8, contiguous, of any shape: m * n elements in row-major order, in blocks of `type`.
 * - `type`: 0 F32, 1 F16, 2 Q4_0, 3 Q4_1, 6 Q5_0, 7 Q5_1, 8 Q8_0, 10 Q2_K, 11 Q3_K, 12 Q4_K, 13 Q5_K, 14 Q6_K, 30 BF16.
 * - `m`, `n`: rows and columns; n is a multiple of the type's block (256 elements for K types, 32 for the other quantized ones).
 * - `dtype`: float32, float16 or bfloat16; float16 where it is null.
 *
 * Returns [m, n], rounded once from `d * (q - 8)` (Q4_0), `d * (q - 16)` (Q5_0), `d * q + m` (Q4_1, Q5_1), `d * q` (Q8_0),
 * `d * scale * q - dmin * min` (Q2_K, Q4_K, Q5_K), `d * scale * (q - 4)` (Q3_K), `d * scale * (q - 32)` (Q6_K) or the number itself.
 */
export const ggml_dequantize = defineOp({
  schema: 'ggml_dequantize(Tensor W, int type, SymInt m, SymInt n, ScalarType? dtype) -> Tensor',

  check(expect, W, type, m, n, dtype) {
    const found = blockTypes.find((candidate) => candidate.type === Number(type))
    const known = blockTypes.map((candidate) => `${candidate.type} (${candidate.name})`).join(', ')
    expect.that('type', type, found !== undefined, `one of ${known}`)
    expect.dtype('W', W, 'uint8')
    expect.that('m', m, Number(m) >= 0, 'a number of rows')
    const { elements, bytes: size, name } = blockType(type)
    expect.that(
      'n',
      n,
      Number(n) >= 0 && Number(n) % elements === 0,
      `a multiple of the ${elements} elements of a ${name} block`,
    )
    const total = (Number(m) * Number(n) * size) / elements
    expect.that('W', W, W.numel === total, `${total} bytes for ${m} x ${n} elements of ${name}`)
    const result = dtype ?? 'float16'
    expect.that('dtype', dtype, floatDTypes.includes(result as FloatDType), floatDTypes.join(', '))
  },

  reference(aten, W, type, m, n, dtype) {
    const { bytes: size, decode } = blockType(type)
    const elements = decode(aten, W.reshape([W.numel / size, size]))
    return elements.to(dtype ?? 'float16').reshape([Number(m), Number(n)])
  },

  *cases(dtype) {
    for (const type of blockTypes) {
      const call = (m: number, n: number, layout: Partial<TensorSpec> = {}) => ({
        W: blocks(type, (m * n) / type.elements, layout),
        type: type.type,
        m,
        n,
        dtype,
      })
      const unit = Math.max(type.elements, 32)
      const widths = unit === 32 ? [32, 64, 96, 576, 1536] : [256, 512, 768, 1536]
      for (const n of widths) yield { name: `${type.name}, 3 x ${n}`, args: call(3, n) }
      yield { name: `${type.name}, no rows`, args: call(0, 2 * unit) }
      yield { name: `${type.name}, no columns`, args: call(3, 0) }
      yield { name: `${type.name}, 1025 x ${unit}`, args: call(1025, unit) }
      yield { name: `${type.name}, misaligned`, args: call(3, 3 * unit, { offset: 1 }) }
      const good = call(3, 3 * unit)
      yield {
        name: `${type.name}, two dimensions`,
        args: { ...good, W: { ...good.W, shape: [3, (good.W.shape[0] ?? 0) / 3] } },
      }
      yield { name: `${type.name}, float16 by default`, args: { ...good, dtype: null } }
      yield {
        name: `${type.name}, with gaps`,
        mayRefuse: 'W',
        args: { ...good, W: { ...good.W, strides: [2] } },
      }
    }
    for (const type of blockTypes.filter(({ elements }) => elements === 1))
      yield {
        name: `${type.name}, 3 x 17`,
        args: { W: blocks(type, 51), type: type.type, m: 3, n: 17, dtype },
      }
  },

  *rejects(dtype) {
    const [, , q40] = blockTypes
    if (!q40) return
    const good = { W: blocks(q40, 6), type: q40.type, m: 3, n: 64, dtype }
    yield { name: 'floats', argument: 'W', args: { ...good, W: filled([108], 'float32', [1]) } }
    yield { name: 'signed bytes', argument: 'W', args: { ...good, W: filled([108], 'int8', [1]) } }
    yield { name: 'a byte too few', argument: 'W', args: { ...good, W: filled([107], 'uint8', [1]) } }
    yield { name: 'a byte too many', argument: 'W', args: { ...good, W: filled([109], 'uint8', [1]) } }
    yield { name: 'more rows than there are', argument: ['W', 'm'], args: { ...good, m: 4 } }
    yield {
      name: 'rows and columns beyond 2^63 elements',
      argument: ['W', 'm', 'n'],
      args: { ...good, m: 2 ** 40, n: 2 ** 40 },
    }
    yield { name: 'columns of half a block', argument: ['n', 'W'], args: { ...good, m: 12, n: 16 } }
    yield { name: 'a negative number of rows', argument: 'm', args: { ...good, m: -3 } }
    yield { name: 'a negative number of columns', argument: 'n', args: { ...good, n: -64 } }
    yield { name: 'negative rows and columns', argument: ['m', 'n'], args: { ...good, m: -3, n: -64 } }
    yield { name: 'an unknown type', argument: 'type', args: { ...good, type: 4 } }
    yield { name: 'a negative type', argument: 'type', args: { ...good, type: -1 } }
    yield { name: 'integers as the result', argument: 'dtype', args: { ...good, dtype: 'int32' as const } }
    yield { name: 'float64 as the result', argument: 'dtype', args: { ...good, dtype: 'float64' as const } }
  },

  tolerance: roundedOnce({ ulps: 0.5, absolute: 0, reason: 'a product that is exact, and one sum' }),

  cost: (W, _type, m, n, dtype) => ({
    flops: 2 * m * n,
    bytes: bytes(W, { shape: [m, n], dtype: dtype ?? 'float16' }),
  }),
})
