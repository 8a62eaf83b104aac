// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import {
  arange,
  Complex,
  empty,
  fromTypedArray,
  full,
  ones,
  type Tensor,
  tensor,
  torch,
  zeros,
} from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'

const { aten } = torch

describe('a tensor', () => {
  it('tells what it is', () => {
    const x = zeros([2, 3, 4], { dtype: 'float16' }).transpose(0, 2)
    expect(x).toMatchObject({
      dtype: 'float16',
      device: 'cpu',
      shape: [4, 3, 2],
      strides: [1, 4, 12],
      ndim: 3,
      numel: 24,
      itemsize: 2,
      nbytes: 48,
      storageOffset: 0,
      isContiguous: false,
      disposed: false,
    })
    expect(x.narrow(0, 1, 2).storageOffset).toBe(1)
  })

  it('has views, each over the same memory', () => {
    const x = arange(0, 12, { dtype: 'float32' })
    const table = x.view([3, 4])
    expect(table.select(0, 1).toArray()).toEqual([4, 5, 6, 7])
    expect(table.slice(1, 1, 4, 2).toArray()).toEqual([
      [1, 3],
      [5, 7],
      [9, 11],
    ])
    expect(table.slice(0).shape).toEqual([3, 4])
    expect(table.reshape([-1, 6]).shape).toEqual([2, 6])
    table.narrow(0, 2, 1).copy_(zeros([4]))
    expect(x.narrow(0, 7, 5).toArray()).toEqual([7, 0, 0, 0, 0])
    expect(x.viewAs('uint8', [48]).numel).toBe(48)
    expect(x.clone().copy_(ones([12]))).not.toBe(x)
  })

  it('converts', () => {
    const x = tensor([1.5, -2, 300])
    expect(x.to('int32').toArray()).toEqual([1, -2, 300])
    expect(x.to({ dtype: 'bfloat16', device: 'cpu' }).toArray()).toEqual([1.5, -2, 300])
    expect(x.to({ device: 'meta' }).device).toBe('meta')
    expect(() => x.to('float31' as 'float32')).toThrow("expected a dtype such as 'float32'")
    expect(() => x.to({ dtipe: 'int8' } as never)).toThrow("argument 'dtipe'")
  })

  it('is disposed once, and says so in every use', () => {
    const x = ones([2])
    x.dispose()
    x.dispose()
    expect(x.disposed).toBe(true)
    for (const use of [
      () => x.shape,
      () => x.dtype,
      () => x.data(),
      () => x.toArray(),
      () => x.item(),
      () => x.clone(),
      () => x.to('int8'),
      () => x.viewAs('int8', [1]),
    ])
      expect(use).toThrow(
        expect.objectContaining({ code: 'E_ARGUMENT', argument: 'self', received: 'a disposed tensor' }),
      )
    expect(inspect(x)).toBe('tensor(disposed)')
    {
      using y = ones([1])
      expect(y.disposed).toBe(false)
    }
  })

  it('has as many dimensions as PyTorch allows', () => {
    const deep = ones([1]).view(Array.from({ length: 20_000 }, () => 1))
    expect(deep.ndim).toBe(20_000)
    expect(deep.strides).toHaveLength(20_000)
  })

  it('without sizes is an error and no crash', () => {
    const nested = torch.aten._nested_tensor_from_tensor_list!([ones([1]), ones([2])])
    expect(() => nested.shape).toThrow('a nested tensor has no sizes')
    expect(inspect(nested)).toBe('tensor(...)')
    expect(() => torch.aten.mm.default!(nested, 1)).toThrow(expect.objectContaining({ argument: 'mat2' }))
  })
})

describe('data()', () => {
  it('is a typed array over the memory itself', () => {
    const x = zeros([2, 2])
    const data = x.data()
    data[3] = 5
    expect(x.toArray()).toEqual([
      [0, 0],
      [0, 5],
    ])
    aten.add_(x, 1)
    expect(data).toEqual(new Float32Array([1, 1, 1, 6]))
    expect(x.data().buffer).toBe(data.buffer)
    expect(x.select(0, 1).data()).toEqual(new Float32Array([1, 6]))
    expect(x.select(0, 1).data().buffer).toBe(data.buffer)
  })

  it.each([
    ['float64', Float64Array],
    ['int64', BigInt64Array],
    ['uint64', BigUint64Array],
    ['int32', Int32Array],
    ['uint32', Uint32Array],
    ['int16', Int16Array],
    ['uint16', Uint16Array],
    ['int8', Int8Array],
    ['uint8', Uint8Array],
    ['bool', Uint8Array],
    ['float16', Uint16Array],
    ['bfloat16', Uint16Array],
    ['float8_e4m3fn', Uint8Array],
  ] as const)('of %s is a %o', (dtype, Class) => {
    expect(zeros([3], { dtype }).data()).toEqual(new Class(3))
  })

  it('of complex numbers has pairs, and of nothing is empty', () => {
    expect(zeros([2], { dtype: 'complex64' }).data()).toHaveLength(4)
    expect(empty([0, 5]).data()).toHaveLength(0)
    expect(ones([4]).narrow(0, 4, 0).data()).toHaveLength(0)
  })

  it('outlives the tensor', () => {
    const x = full([1000], 7)
    const data = x.data()
    x.dispose()
    for (let i = 0; i < 100; i++) full([1000], 1).dispose()
    expect(data.every((value) => value === 7)).toBe(true)
  })

  it('pins the memory: an op that would reallocate it fails', () => {
    const x = full([4], 3)
    const data = x.data()
    expect(() => aten.resize_(x, [100_000])).toThrow(expect.objectContaining({ code: 'E_TORCH' }))
    expect(data[3]).toBe(3)
  })

  it('says what it needs', () => {
    expect(() => ones([2, 2]).transpose(0, 1).data()).toThrow(
      'expected a contiguous tensor (use contiguous())',
    )
    expect(() => ones([2], { device: 'meta' }).data()).toThrow(
      "expected a tensor on cpu (use to({ device: 'cpu' }))",
    )
  })

  it("of a tensor over JavaScript's memory is that memory", () => {
    const array = new Float32Array([1, 2, 3, 4]).subarray(1)
    const x = fromTypedArray(array)
    expect(x.data().buffer).toBe(array.buffer)
    expect(x.narrow(0, 1, 2).data()).toEqual(new Float32Array([3, 4]))
  })
})

describe('toArray() and item()', () => {
  it.each([
    ['float16', 65504],
    ['bfloat16', -1.5],
    ['float8_e4m3fn', 448],
    ['float8_e5m2', -0.25],
    ['float64', Math.PI],
    ['int8', -128],
    ['uint16', 65535],
  ] as const)('read %s', (dtype, value) => {
    expect(tensor([[value]], { dtype }).toArray()).toEqual([[value]])
    expect(tensor(value, { dtype }).item()).toBe(value)
  })

  it('read bigints and booleans as such', () => {
    expect(tensor([1n, -(1n << 63n)]).toArray()).toEqual([1n, -(1n << 63n)])
    expect(tensor([true, false]).toArray()).toEqual([true, false])
    expect(tensor([(1n << 64n) - 1n], { dtype: 'uint64' }).item()).toBe((1n << 64n) - 1n)
  })

  it('read strided tensors in the order of their dimensions', () => {
    expect(
      tensor([
        [1, 2],
        [3, 4],
      ])
        .transpose(0, 1)
        .toArray(),
    ).toEqual([
      [1, 3],
      [2, 4],
    ])
    expect(empty([2, 0]).toArray()).toEqual([[], []])
  })

  it('leave the tensor alone', () => {
    const x = ones([1])
    x.item()
    x.toArray()
    expect(x.disposed).toBe(false)
    expect(() => ones([2]).item()).toThrow('expected a tensor with one element, received float32[2]')
  })

  it.each(['int8', 'int32', 'uint8', 'int64', 'uint64'] as const)(
    'are not made of fractions: %s',
    (dtype) => {
      expect(() => tensor([1, 1.5], { dtype })).toThrow(/received 1\.5/)
      expect(() => tensor([Number.NaN], { dtype })).toThrow(/received NaN/)
    },
  )

  it.each(['complex64', 'complex128'] as const)('read %s as complex numbers', (dtype) => {
    const x = tensor([[new Complex(1, -2)], [new Complex(0.5, 0)]], { dtype })
    expect(x.toArray()).toEqual([[new Complex(1, -2)], [new Complex(0.5, 0)]])
    expect(x.transpose(0, 1).index(0, 1).item()).toEqual(new Complex(0.5, 0))
    expect(x.toArray()).not.toEqual([[new Complex(1, -2)], [new Complex(0.5, 1)]])
    expect(String(x.index(0, 0).item())).toBe('1-2j')
    expect(inspect(x.index(0, 0).item())).toBe('Complex { re: 1, im: -2 }')
  })

  it.each(['complex64', 'complex128'] as const)('read conjugates of %s, which are a bit', (dtype) => {
    const base = tensor([new Complex(1, -2), new Complex(3, 4)], { dtype })
    const x = aten.conj!(base) as Tensor
    expect(x.toArray()).toEqual([new Complex(1, 2), new Complex(3, -4)])
    expect(x.index(0).item()).toEqual(new Complex(1, 2))
    const imaginary = aten.imag!(x) as Tensor
    expect(imaginary.toArray()).toEqual([2, -4])
    // What was read is a copy: the tensors are those of the same memory as before.
    aten.mul_.Scalar!(base, 2)
    expect(x.toArray()).toEqual([new Complex(2, 4), new Complex(6, -8)])
    expect(imaginary.toArray()).toEqual([4, -8])
  })
})

describe('printing', () => {
  const print = (x: Tensor) => inspect(x)

  it.each([
    [tensor(1.5), 'tensor(1.5000, float32[])'],
    [tensor([]), 'tensor([], float32[0])'],
    [tensor([1, 2, -3]), 'tensor([ 1.,  2., -3.], float32[3])'],
    [
      tensor([
        [0.12345, -1],
        [Number.NaN, Number.POSITIVE_INFINITY],
      ]),
      'tensor([[ 0.1235, -1.0000],\n        [    nan,     inf]], float32[2, 2])',
    ],
    [tensor([1e-6, 1]), 'tensor([1.0000e-06, 1.0000e+00], float32[2])'],
    [tensor([1n, -20n]), 'tensor([  1, -20], int64[2])'],
    [tensor([true, false]), 'tensor([ true, false], bool[2])'],
    [ones([2], { dtype: 'bfloat16' }), 'tensor([1., 1.], bfloat16[2])'],
    [
      aten.view_as_complex(
        tensor([
          [1, -2],
          [0.5, 3],
        ]),
      ),
      'tensor([ 1.0000-2.0000j,  0.5000+3.0000j], complex64[2])',
    ],
    [
      aten.conj!(tensor([[new Complex(1, -2)], [new Complex(-10, 4)]])),
      'tensor([[  1.+2.j],\n        [-10.-4.j]], complex64[2, 1])',
    ],
    [ones([3], { device: 'meta' }), 'tensor(..., float32[3] on meta)'],
  ])('%# is as PyTorch does it', (x, text) => {
    expect(print(x)).toBe(text)
  })

  it('shows three of each end beyond 1000 elements, in lines of 80 columns', () => {
    expect(print(arange(0, 1001))).toBe('tensor([   0,    1,    2,  ...,  998,  999, 1000], int64[1001])')
    expect(print(arange(0, 1200, { dtype: 'float32' }).view([100, 12]))).toBe(
      `tensor([[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 9.0000e+00, 1.0000e+01,
         1.1000e+01],
        [1.2000e+01, 1.3000e+01, 1.4000e+01,  ..., 2.1000e+01, 2.2000e+01,
         2.3000e+01],
        [2.4000e+01, 2.5000e+01, 2.6000e+01,  ..., 3.3000e+01, 3.4000e+01,
         3.5000e+01],
        ...,
        [1.1640e+03, 1.1650e+03, 1.1660e+03,  ..., 1.1730e+03, 1.1740e+03,
         1.1750e+03],
        [1.1760e+03, 1.1770e+03, 1.1780e+03,  ..., 1.1850e+03, 1.1860e+03,
         1.1870e+03],
        [1.1880e+03, 1.1890e+03, 1.1900e+03,  ..., 1.1970e+03, 1.1980e+03,
         1.1990e+03]], float32[100, 12])`,
    )
    for (const text of print(arange(0, 1000)).split('\n')) expect(text.length).toBeLessThanOrEqual(80)
  })

  it('separates matrices by a line, and is short inside deep objects', () => {
    expect(print(ones([2, 1, 2]))).toBe('tensor([[[1., 1.]],\n\n        [[1., 1.]]], float32[2, 1, 2])')
    expect(inspect({ a: { b: { c: ones([2]) } } }, { depth: 1 })).not.toContain('1.')
    expect(`${ones([2, 3])}`).toBe('float32[2, 3]')
  })

  it('leaves no tensors behind', () => {
    const x = arange(0, 5000)
    const clones = inspect(x)
    expect(clones).toContain('4999')
    expect(x.disposed).toBe(false)
  })
})
