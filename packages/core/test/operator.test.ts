// SPDX-License-Identifier: Apache-2.0
import { runInNewContext } from 'node:vm'
import {
  ArgumentError,
  arange,
  Complex,
  empty,
  generator,
  hasKernel,
  listOps,
  NoKernelError,
  ones,
  ops,
  type Tensor,
  TorchError,
  tensor,
  torch,
  VllmOpsError,
  zeros,
} from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'

/** What a call throws. */
function thrown(call: () => unknown): unknown {
  try {
    call()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}

const { aten } = torch

describe('arguments', () => {
  it('go both ways for every type of a schema', () => {
    const x = tensor([
      [1, 2],
      [3, 4],
    ])
    expect(aten.add(x, x, { alpha: 2 }).toArray()).toEqual([
      [3, 6],
      [9, 12],
    ])
    expect(aten.sum.dim_IntList!(x, [0], true).toArray()).toEqual([[4, 6]])
    expect(aten.sum.dim_IntList!(x, [1], { dtype: 'float64' }).dtype).toBe('float64')
    expect(aten.cat([x, x], 1).shape).toEqual([2, 4])
    expect(aten.clamp(x, 2, null).toArray()).toEqual([
      [2, 2],
      [3, 4],
    ])
    expect(aten.eq(x, 3).toArray()).toEqual([
      [false, false],
      [true, false],
    ])
    expect(aten.equal<boolean>(x, x)).toBe(true)
    expect(torch.aten.size!.int!<number>(x, 1)).toBe(2)
    expect(torch.aten.item!<number>(aten.select(x, 0, 0).select(0, 1))).toBe(2)
    expect(aten.index<Tensor>(x, [null, tensor([1n])]).toArray()).toEqual([[2], [4]])
    expect(
      aten.empty([2, 3], { dtype: 'int8', device: 'cpu', memory_format: 'contiguous_format' }).dtype,
    ).toBe('int8')
    expect(aten.div(tensor([7n]), tensor([2n]), { rounding_mode: 'floor' }).toArray()).toEqual([3n])
    expect(torch.aten.avg_pool2d!(ones([1, 1, 4, 4]), 2).shape).toEqual([1, 1, 2, 2])
    expect(torch.aten.result_type!<string>(x, tensor([1n]))).toBe('float32')
    expect(aten.fill_(zeros([1], { dtype: 'complex64' }), new Complex(1, -2)).data()).toEqual(
      new Float32Array([1, -2]),
    )
    expect(torch.aten.item!<Complex>(zeros([], { dtype: 'complex64' })).re).toBe(0)
  })

  it('are integers exactly, as numbers to 2^53 and as bigints to 2^63', () => {
    const limit = zeros([1], { dtype: 'int64' })
    expect(aten.add(limit, (1n << 63n) - 1n).toArray()).toEqual([(1n << 63n) - 1n])
    expect(aten.add(limit, Number.MAX_SAFE_INTEGER).toArray()).toEqual([BigInt(Number.MAX_SAFE_INTEGER)])
    expect(torch.aten.item!<bigint>(aten.add(limit, 1n << 62n))).toBe(1n << 62n)
    const x = arange(0, 4)
    for (const dim of [
      0.5,
      Number.NaN,
      Number.POSITIVE_INFINITY,
      2 ** 53,
      1n << 64n,
      '0',
      true,
      Symbol('0'),
      () => 0,
      {},
    ])
      expect(() => aten.select.int!(x, dim as number, 0)).toThrow(
        expect.objectContaining({
          code: 'E_ARGUMENT',
          argument: 'dim',
          expected: `an integer${typeof dim === 'number' ? ' (a bigint beyond 2^53)' : ''}`,
        }),
      )
  })

  it('may be typed arrays, of any class and realm', () => {
    const x = zeros([2, 3])
    class Odd extends Int32Array {
      override get length() {
        return 7
      }
    }
    expect(aten.view(x, new Int32Array([3, 2]) as never).shape).toEqual([3, 2])
    expect(aten.view(x, new BigInt64Array([6n]) as never).shape).toEqual([6])
    expect(aten.view(x, new Odd([6]) as never).shape).toEqual([6])
    expect(aten.view(x, runInNewContext('[3, 2]')).shape).toEqual([3, 2])
    expect(aten.add(x, x, runInNewContext('({ alpha: 2 })')).shape).toEqual([2, 3])
  })

  it('longer than the argument buffer are passed, and so are results', () => {
    const many = Array.from({ length: 40_000 }, (_, i) => i % 5)
    const x = zeros([2])
    expect(
      aten.view(
        ones([1]),
        many.map(() => 1),
      ).ndim,
    ).toBe(40_000)
    const parts = aten.unbind<Tensor[]>(arange(0, 40_000))
    expect(parts).toHaveLength(40_000)
    expect(parts[39_999]!.item()).toBe(39_999n)
    for (const part of parts) part.dispose()
    expect(aten.add(x, 1).toArray()).toEqual([1, 1])
  })

  it('left out take their defaults, by undefined too', () => {
    const x = tensor([1, 2])
    expect(aten.add(x, x, { alpha: undefined }).toArray()).toEqual([2, 4])
    expect(aten.sum(x, undefined).item()).toBe(3)
  })
})

describe('results', () => {
  it('of in-place ops and out variants are the very argument', () => {
    const x = tensor([1, 2])
    const out = empty([2])
    expect(aten.add_(x, x)).toBe(x)
    expect(aten.add(x, x, { out })).toBe(out)
    expect(out.toArray()).toEqual([4, 8])
    const [values, indices] = [empty([1]), empty([1], { dtype: 'int64' })]
    expect(aten.topk<Tensor[]>(x, 1, { values, indices })).toEqual([values, indices])
  })

  it('that may be an argument are objects of their own, over the same memory', () => {
    const x = tensor([1, 2])
    const same = x.contiguous()
    expect(same).not.toBe(x)
    same.dispose()
    expect(x.toArray()).toEqual([1, 2])
    const again = x.to('float32')
    aten.add_(again, 1)
    expect(x.toArray()).toEqual([2, 3])
  })

  it('are tuples, lists and nothing', () => {
    const [values, indices] = aten.sort<[Tensor, Tensor]>(tensor([3, 1, 2]))
    expect([values.toArray(), indices.toArray()]).toEqual([
      [1, 2, 3],
      [1n, 2n, 0n],
    ])
    expect(aten.split<Tensor[]>(arange(0, 5), 2).map((part) => part.shape)).toEqual([[2], [2], [1]])
    expect(torch.aten._foreach_add_!<void>([tensor([1])], 1)).toBeUndefined()
  })
})

describe('an error', () => {
  it.each([
    [
      'too few',
      () => Reflect.apply(ops.silu_and_mul, undefined, [empty([1])]),
      'input',
      'a tensor',
      'nothing',
    ],
    ['too many', () => aten.outer(ones([1]), ones([1]), 3, 4), '', '2 arguments', '4'],
    ['null', () => aten.outer(ones([1]), null), 'vec2', 'a tensor', 'null'],
    ['a number for a tensor', () => aten.neg(1.5), 'self', 'a tensor', 'number 1.5'],
    [
      'a tensor for a list',
      () => aten.cat(ones([2])),
      'tensors',
      'an array of tensors',
      'tensor float32[2] on cpu',
    ],
    ['a hole', () => aten.cat([ones([1]), null]), 'tensors', 'an array of tensors', 'null at index 1'],
    [
      'a dtype',
      () => zeros([1], { dtype: 'float31' as 'float32' }),
      'dtype',
      "a dtype such as 'float32' or null",
      "'float31'",
    ],
    [
      'a device',
      () => zeros([1], { device: 'cpu:300' }),
      'device',
      "a device such as 'cpu' or 'cuda:0' or null",
      "'cpu:300'",
    ],
    [
      'an unknown keyword',
      () => torch.aten.mm.default!(ones([1, 1]), { mat3: 1 }),
      'mat3',
      'one of self, mat2',
      "'mat3'",
    ],
    [
      'a value twice',
      () => torch.aten.mm.default!(ones([1, 1]), ones([1, 1]), { mat2: ones([1, 1]) }),
      'mat2',
      'one value',
      'one by position and one by name',
    ],
    ['a promise', () => aten.neg(Promise.resolve() as never), 'self', 'a tensor', 'a Promise'],
    ['a function', () => aten.neg((() => 0) as never), 'self', 'a tensor', 'a function'],
    ['a symbol', () => aten.neg(Symbol('x') as never), 'self', 'a tensor', 'a symbol'],
    ['a string with NUL', () => aten.neg('a\0b'), 'self', 'a tensor', "'a\0b'"],
    ['half a surrogate pair', () => aten.neg('\ud800'), 'self', 'a tensor', "'\ufffd'"],
    [
      'a clone of a tensor',
      () => aten.neg(structuredClone(ones([1])) as never),
      'self',
      'a tensor',
      'nothing',
    ],
    [
      'a huge bigint',
      () => aten.select.int!(ones([1]), 1n << 70n, 0),
      'dim',
      'an integer',
      `bigint ${1n << 70n}n (beyond 64 bits)`,
    ],
  ])('names op, argument, expected and received: %s', (_, call, argument, expected, received) => {
    const error = thrown(call)
    expect(error).toBeInstanceOf(ArgumentError)
    expect(error).toMatchObject({ code: 'E_ARGUMENT', argument, expected, received })
    expect((error as ArgumentError).op).toMatch(/^(aten|vllm_ops)::/)
    expect((error as ArgumentError).fix).toMatch(/^The op is (aten|vllm_ops)::/)
    const where = argument === '' ? '' : `argument '${argument}': `
    expect((error as Error).message).toBe(
      `${(error as ArgumentError).op}: ${where}expected ${expected}, received ${received}`,
    )
  })

  it('says that a tensor was disposed', () => {
    const x = ones([1])
    x.dispose()
    expect(() => aten.neg(x)).toThrow(
      "aten::neg: argument 'self': expected a live tensor, received a disposed tensor",
    )
    const state = generator(1)
    state.dispose()
    expect(() => torch.aten.rand!.generator!([1], { generator: state })).toThrow(
      'received a disposed generator',
    )
  })

  it('lists the overloads that were tried, readably, without out variants', () => {
    expect(thrown(() => aten.add(ones([2]), 'two'))).toMatchObject({
      code: 'E_ARGUMENT',
      op: 'aten::add',
      message: `aten::add: expected the arguments of one of its overloads, received (tensor float32[2], 'two')
  add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor
    argument 'other': expected a tensor, received 'two'
  add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor
    argument 'other': expected a number or a boolean, received 'two'`,
    })
  })

  it("is PyTorch's own, with the op's name", () => {
    const error = thrown(() => aten.mm(ones([2, 3]), ones([2, 3])))
    expect(error).toBeInstanceOf(TorchError)
    expect(error).toMatchObject({ code: 'E_TORCH', op: 'aten::mm' })
    expect((error as Error).message).toMatch(/^aten::mm: mat1 and mat2 shapes cannot be multiplied/)
    expect((error as Error).message).not.toContain('Exception raised from')
  })

  it('tells what to install where there is no kernel', () => {
    const error = thrown(() => ops.silu_and_mul(empty([1]), empty([2])))
    expect(error).toBeInstanceOf(NoKernelError)
    expect(error).toMatchObject({
      code: 'E_NO_KERNEL',
      op: 'vllm_ops::silu_and_mul',
      dispatchKey: 'CPU',
      fix: 'Install it (npm install @vllm-ops/cpu) and call use() with its backend before the op',
    })
  })

  it('tells how to go on when memory runs out', () => {
    expect(thrown(() => empty([2 ** 50]))).toMatchObject({
      code: 'E_OUT_OF_MEMORY',
      fix: expect.stringContaining('dispose()'),
    })
    expect(() => empty([2 ** 40, 2 ** 40])).toThrow(VllmOpsError)
    expect(() => empty([-1])).toThrow(TorchError)
  })

  it('of an unknown op says how to list them', () => {
    expect(thrown(() => torch.aten.nope!(1))).toMatchObject({
      code: 'E_NO_OP',
      message: 'no op aten::nope is defined in the dispatcher',
      fix: expect.stringContaining('vllm-ops ops'),
    })
  })
})

describe('code of the caller that runs while arguments are read', () => {
  it('may call ops', () => {
    const x = ones([2])
    const options = {
      get alpha() {
        return torch.aten.item!<number>(
          aten.sum(
            tensor([
              [1, 2],
              [3, 4],
            ]),
          ),
        )
      },
    }
    expect(aten.add(x, x, options).toArray()).toEqual([11, 11])
    const shape = new Proxy([2, 1], {
      get: (target, name, receiver) => {
        aten.add(x, x)
        return Reflect.get(target, name, receiver)
      },
    })
    expect(x.view(shape).shape).toEqual([2, 1])
  })

  it('may dispose, throw, or describe itself by calling ops', () => {
    const x = ones([2])
    expect(() =>
      aten.add(x, x, {
        get alpha() {
          x.dispose()
          return 1
        },
      }),
    ).toThrow('a disposed tensor')
    const y = ones([1])
    expect(() =>
      aten.add(y, y, {
        get alpha(): number {
          throw new RangeError('mine')
        },
      }),
    ).toThrow(RangeError)
    const shy = {
      get [Symbol.toStringTag]() {
        aten.add(y, y)
        return 'Shy'
      },
    }
    expect(() => aten.cat([y, shy as never])).toThrow('received a Shy at index 1')
    const prototypes = new Proxy(new (class Mine {})(), {
      getPrototypeOf() {
        aten.add(y, y)
        return null
      },
    })
    expect(() => aten.mul.Tensor!(y, [prototypes as never])).toThrow(ArgumentError)
    expect(aten.add(y, y).toArray()).toEqual([2])
  })
})

describe('the dispatcher', () => {
  it('is listed', () => {
    const aten = listOps('aten')
    expect(aten.length).toBeGreaterThan(2000)
    expect(aten.find(({ name, overload }) => name === 'aten::add' && overload === 'Tensor')?.schema).toBe(
      'aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor',
    )
    expect(listOps().length).toBeGreaterThan(aten.length)
    expect(listOps('no_such_namespace')).toEqual([])
  })

  it('tells which kernels there are, and which names are no dispatch keys', () => {
    expect(hasKernel('aten::add.Tensor', 'CPU')).toBe(true)
    expect(hasKernel('vllm_ops::silu_and_mul', 'CPU')).toBe(false)
    expect(hasKernel('aten::no_such_op', 'CPU')).toBe(false)
    expect(thrown(() => hasKernel('aten::add.Tensor', 'GPU'))).toMatchObject({
      code: 'E_ARGUMENT',
      argument: 'dispatchKey',
      received: "'GPU'",
    })
  })

  it('has our ops, and says which it does not have', () => {
    expect(ops.silu_and_mul).toHaveProperty(
      'schema',
      'vllm_ops::silu_and_mul(Tensor(a!) out, Tensor input) -> ()',
    )
    expect(thrown(() => Reflect.get(ops, 'silu'))).toMatchObject({ code: 'E_NO_OP' })
  })

  it('keeps working after many strings of all kinds', () => {
    const x = ones([1])
    for (let i = 0; i < 6000; i++) expect(() => aten.neg(`text ${i}`)).toThrow(`'text ${i}'`)
    expect(aten.div(x, x, { rounding_mode: 'trunc' }).to({ dtype: 'int32' }).dtype).toBe('int32')
  })
})
