// SPDX-License-Identifier: Apache-2.0
import {
  bfloat16ToNumber,
  float16ToNumber,
  fromTypedArray,
  numberToBfloat16,
  numberToFloat16,
  zeros,
} from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { type DType, dtypeOfArray, dtypes } from '../src/dtype'

// Every value of 16 bits, and numbers around what two neighbours share.
const all = Uint16Array.from({ length: 1 << 16 }, (_, bits) => bits)

function around(values: readonly number[]): Float32Array {
  return Float32Array.from(
    values.flatMap((value, i) => {
      const next = values[i + 1] ?? value
      const middle = (value + next) / 2
      return [value, middle, middle * (1 + 2 ** -22), middle * (1 - 2 ** -22), -value]
    }),
  )
}

describe.each([
  ['float16', float16ToNumber, numberToFloat16],
  ['bfloat16', bfloat16ToNumber, numberToBfloat16],
] as const)('%s', (dtype, decode, encode) => {
  it('is read as libtorch reads it, every value', () => {
    const exact = fromTypedArray(all, undefined, { dtype }).to('float32').data() as Float32Array
    for (const bits of all)
      expect(
        Object.is(decode(bits), exact[bits]!) || (Number.isNaN(decode(bits)) && Number.isNaN(exact[bits]!)),
      ).toBe(true)
  })

  it('is written as libtorch writes it, ties and ends among them', () => {
    const finite = Array.from(all.subarray(0, 0x8000), decode).filter(Number.isFinite)
    const numbers = around(finite.filter((_, i) => i % 7 === 0 || i < 40 || i > finite.length - 4))
    const extremes = Float32Array.of(
      0,
      -0,
      Infinity,
      -Infinity,
      65504,
      65519.99,
      65520,
      1e-8,
      2 ** -25,
      2 ** -24,
      3.4e38,
    )
    for (const list of [numbers, extremes]) {
      const exact = fromTypedArray(list).to(dtype).data() as Uint16Array
      expect(Array.from(list, encode)).toEqual(Array.from(exact))
    }
    expect(decode(encode(Number.NaN))).toBeNaN()
  })

  it('comes back from every one of its values', () => {
    for (const bits of all) if (!Number.isNaN(decode(bits))) expect(encode(decode(bits))).toBe(bits)
  })
})

describe('dtypes', () => {
  it.each(Object.keys(dtypes) as DType[])("%s has libtorch's number and size", (dtype) => {
    const x = zeros([2], { dtype })
    expect(x.dtype).toBe(dtype)
    const parts = dtype.startsWith('complex') ? 2 : 1
    expect(x.itemsize).toBe(parts * dtypes[dtype].view.BYTES_PER_ELEMENT)
  })

  it('are told from typed arrays', () => {
    expect(dtypeOfArray(new Uint8ClampedArray(1))).toBe('uint8')
    expect(dtypeOfArray(Buffer.from([1]))).toBe('uint8')
    expect(dtypeOfArray(new DataView(new ArrayBuffer(1)))).toBeUndefined()
  })
})
