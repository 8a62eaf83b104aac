// SPDX-License-Identifier: Apache-2.0
import {
  allClose,
  arange,
  assertClose,
  Complex,
  difference,
  empty,
  fromJSON,
  ones,
  type Tensor,
  type TensorJSON,
  tensor,
  torch,
  VllmOpsError,
  zeros,
} from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'

const { NaN: nan, POSITIVE_INFINITY: infinity } = Number

describe('allClose', () => {
  it('allows what the coarser dtype cannot hold', () => {
    const x = tensor([1, 1000, -3])
    expect(allClose(x, tensor([1.000001, 1000.001, -3.000002]))).toBe(true)
    expect(allClose(x, tensor([1.001, 1000, -3]))).toBe(false)
    expect(allClose(x.to('bfloat16'), tensor([1.01, 1004, -3.02]))).toBe(true)
    expect(allClose(x, tensor([1.001, 1000, -3]), { rtol: 0, atol: 0.01 })).toBe(true)
    expect(allClose(zeros([0]), zeros([0]))).toBe(true)
    expect(allClose(x.to('float64'), x)).toBe(true)
  })

  it('compares integers and booleans exactly, however large', () => {
    const large = 2n ** 62n
    expect(allClose(tensor([large]), tensor([large]))).toBe(true)
    expect(allClose(tensor([large]), tensor([large + 1n]))).toBe(false)
    expect(allClose(tensor([true, false]), tensor([true, true]))).toBe(false)
  })

  it('takes infinities for equal, and NaN where it is told to', () => {
    expect(allClose(tensor([infinity, 1]), tensor([infinity, 1]))).toBe(true)
    expect(allClose(tensor([infinity]), tensor([-infinity]))).toBe(false)
    expect(allClose(tensor([nan]), tensor([nan]))).toBe(false)
    expect(allClose(tensor([nan]), tensor([nan]), { equalNan: true })).toBe(true)
    expect(allClose(tensor([nan]), tensor([1]), { equalNan: true })).toBe(false)
  })

  it('says how many differ, and where most', () => {
    const expected = arange(0, 6, { dtype: 'float32' }).view([2, 3])
    const actual = expected.clone().indexPut_([1, 2], 5.5).indexPut_([0, 1], 1.25)
    expect(difference(actual, expected)).toEqual({
      message:
        '2 of 6 elements are not close (33.3 %) in float32[2, 3], expected float32[2, 3]\n' +
        '  most at [1, 2]: 5.5, expected 5 (by 0.5, allowed 0.0000165)\n' +
        '  most for its size at [0, 1]: 1.25, expected 1 (by 0.25 of it, allowed rtol 0.0000013, atol 0.00001)',
      count: 2,
      index: [1, 2],
      absolute: 0.5,
      relative: 0.25,
    })
    expect(() => assertClose(actual, expected)).toThrow(
      expect.objectContaining({ code: 'E_NOT_CLOSE', message: expect.stringContaining('most at [1, 2]') }),
    )
    expect(() => assertClose(actual, actual)).not.toThrow()
    expect(difference(tensor([nan, 5]), tensor([1, 1]))?.index).toEqual([0])
    expect(difference(tensor([new Complex(1, 2)]), tensor([new Complex(1, 3)]))?.message).toContain(
      'most at [0]: 1+2j, expected 1+3j (by 1,',
    )
    const conjugate = torch.aten._conj!(tensor([new Complex(1, 2)])) as Tensor
    expect(difference(conjugate, tensor([new Complex(1, -3)]))?.message).toContain(
      'most at [0]: 1-2j, expected 1-3j (by 1,',
    )
    expect(difference(ones([2]), ones([3]))?.message).toBe(
      'the tensors differ in shape: float32[2], expected float32[3]',
    )
  })

  it('refuses what is no tensor and no option', () => {
    expect(() => allClose(ones([1]), 3 as never)).toThrow(
      "argument 'expected': expected a tensor, received 3",
    )
    expect(() => allClose(ones([1]), ones([1]), { tolerance: 1 } as never)).toThrow("received 'tolerance'")
  })
})

describe('JSON', () => {
  it.each([
    [
      'numbers',
      tensor([
        [1.5, -2],
        [0, 3],
      ]),
      {
        dtype: 'float32',
        shape: [2, 2],
        data: [
          [1.5, -2],
          [0, 3],
        ],
      },
    ],
    ['a number', tensor(2), { dtype: 'float32', shape: [], data: 2 }],
    [
      'what JSON has no numbers for',
      tensor([nan, infinity, -infinity, -0]),
      { data: ['NaN', 'Infinity', '-Infinity', '-0'] },
    ],
    ['integers', tensor([1n, -(2n ** 60n)]), { dtype: 'int64', data: [1, '-1152921504606846976'] }],
    ['booleans', tensor([true, false]), { dtype: 'bool', data: [true, false] }],
    ['16-bit floats', tensor([0.1]).to('bfloat16'), { dtype: 'bfloat16', data: [0.10009765625] }],
    [
      'complex numbers',
      tensor([[new Complex(1, -2)]]),
      { dtype: 'complex64', shape: [1, 1], data: [[[1, -2]]] },
    ],
    ['nothing', empty([0, 3]), { shape: [0, 3], data: [] }],
  ])('of %s comes back', (_, x, expected) => {
    const json = JSON.parse(JSON.stringify(x)) as TensorJSON
    expect(json).toMatchObject(expected)
    const back = fromJSON(json)
    expect(back.toJSON()).toEqual(x.toJSON())
    expect(back.shape).toEqual(x.shape)
  })

  it.each<[string, unknown]>([
    ['nothing', null],
    ['a dtype that is none', { dtype: 'float31', shape: [1], data: [1] }],
    ['a shape that is none', { dtype: 'float32', shape: [-1], data: [1] }],
    ['too few elements', { dtype: 'float32', shape: [2], data: [1] }],
    ['too many dimensions', { dtype: 'float32', shape: [1], data: [[1]] }],
    ['texts', { dtype: 'float32', shape: [1], data: ['1'] }],
    ['a fraction for an integer', { dtype: 'int32', shape: [1], data: [1.5] }],
    ['an integer beyond its dtype', { dtype: 'int8', shape: [1], data: [128] }],
    ['one part of a complex number', { dtype: 'complex64', shape: [1], data: [1] }],
  ])('of %s is refused', (_, json) => {
    expect(() => fromJSON(json as TensorJSON)).toThrow(VllmOpsError)
    expect(() => fromJSON(json as TensorJSON)).toThrow(expect.objectContaining({ code: 'E_ARGUMENT' }))
  })
})
