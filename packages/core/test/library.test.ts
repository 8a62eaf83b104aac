// SPDX-License-Identifier: Apache-2.0
import { Library, loadLibrary, ones, type Tensor, tensor, torch, VllmOpsError } from '@vllm-ops/core'
import { afterEach, describe, expect, it } from 'vitest'

const { aten } = torch
const libraries: Library[] = []
let spaces = 0

/** A namespace of its own, with one op defined. */
function library(schema: string): { lib: Library; call: <R = Tensor>(...args: never[]) => R } {
  const space = `test_${++spaces}`
  const lib = new Library(space, 'FRAGMENT').define(schema)
  libraries.push(lib)
  const name = /^\w+/.exec(schema)![0]
  return { lib, call: (...args) => torch[space]![name]!(...args) }
}

afterEach(() => {
  for (const lib of libraries.splice(0)) lib.dispose()
})

describe('a kernel in TypeScript', () => {
  it('gets the arguments of the schema and gives its result', () => {
    const { lib, call } = library('twice(Tensor x, *, int times=2) -> Tensor')
    lib.impl('twice', (x: Tensor, times: number) => aten.mul(x, times), 'CompositeExplicitAutograd')
    expect(call(tensor([1, 2]) as never).toArray()).toEqual([2, 4])
    expect(call(tensor([1, 2]) as never, { times: 3 } as never).toArray()).toEqual([3, 6])
  })

  it('is not called with what JavaScript has no form for', () => {
    const { lib, call } = library('odd_type(Tensor x, complex y) -> Tensor')
    let calls = 0
    lib.impl('odd_type', () => void calls++, 'CPU')
    expect(() => call(ones([1]) as never, 3 as never)).toThrow(
      "argument 'y': expected a value of type complex, which JavaScript has no form for, received number 3",
    )
    expect(calls).toBe(0)
  })

  it('gets enumerators by their names', () => {
    const { lib, call } = library(
      'names(Tensor? a, int[] c, float d, bool e, str f, ScalarType g, Layout h, MemoryFormat i, Device j, int? k, ScalarType? l, Scalar n) -> str',
    )
    const seen: unknown[] = []
    lib.impl(
      'names',
      (...args: never[]) => (seen.push(...args) > 0 ? 'text' : ''),
      'CompositeExplicitAutograd',
    )
    const args = [
      null,
      [1, 2],
      0.5,
      true,
      'x',
      'bfloat16',
      'strided',
      'channels_last',
      'cpu',
      null,
      'int8',
      4,
    ]
    expect(call<string>(...(args as never[]))).toBe('text')
    expect(seen).toEqual(args)
  })

  it('gives several results, lists and nothing', () => {
    const pair = library('pair(Tensor x) -> (Tensor, int[])')
    pair.lib.impl('pair', (x: Tensor) => [aten.neg(x), [1, 2]], 'CPU')
    const [negative, list] = pair.call<[Tensor, number[]]>(ones([1]) as never)
    expect([negative.item(), list]).toEqual([-1, [1, 2]])
    const write = library('write(Tensor(a!) x) -> ()')
    write.lib.impl('write', (x: Tensor) => void aten.add_(x, 1), 'CPU')
    const x = ones([1])
    expect(write.call<void>(x as never)).toBeUndefined()
    expect(x.item()).toBe(2)
    const same = library('same(Tensor(a!) x) -> Tensor(a!)')
    same.lib.impl('same', (x: Tensor) => x, 'CPU')
    expect(same.call(x as never)).toBe(x)
  })

  it('may call ops with kernels in TypeScript, to any depth that the stack has', () => {
    const { lib, call } = library('down(Tensor x, int n) -> Tensor')
    lib.impl(
      'down',
      (x: Tensor, n: number) => (n === 0 ? aten.clone(x) : call(x as never, (n - 1) as never)),
      'CPU',
    )
    expect(call(tensor([4]) as never, 50 as never).item()).toBe(4)
    expect(() => call(tensor([4]) as never, 1e9 as never)).toThrow(RangeError)
    expect(call(tensor([5]) as never, 3 as never).item()).toBe(5)
  })

  it('is called by ops of C++ too', () => {
    const lib = new Library('aten', 'IMPL')
    libraries.push(lib)
    lib.impl('relu', (x: Tensor) => aten.add(x, 100), 'CPU', { allowOverride: true })
    // A composite op of C++ that calls relu.
    expect(torch.aten.relu6!(tensor([1])).item()).not.toBe(101)
    expect(aten.relu(tensor([1])).item()).toBe(101)
    lib.dispose()
    expect(aten.relu(tensor([-1])).item()).toBe(0)
  })

  it('throws through C++: the very error comes out', () => {
    const { lib, call } = library('bad(Tensor x) -> Tensor')
    const mine = new TypeError('mine')
    lib.impl(
      'bad',
      () => {
        throw mine
      },
      'CPU',
    )
    let caught: unknown
    try {
      call(ones([1]) as never)
    } catch (error) {
      caught = error
    }
    expect(caught).toBe(mine)
    expect(aten.neg(ones([1])).item()).toBe(-1)
  })

  it.each([
    ['nothing', () => undefined, 'returned nothing where its schema says Tensor'],
    ['a number', () => 3, 'returned number 3 where its schema says Tensor'],
    ['a promise', async () => ones([1]), 'returned a Promise where its schema says Tensor'],
    [
      'a disposed tensor',
      () => {
        const x = ones([1])
        x.dispose()
        return x
      },
      'returned a disposed tensor',
    ],
    ['a list', () => [ones([1])], 'returned an array of 1 where its schema says Tensor'],
  ])('that returns %s is an error', (_, kernel, message) => {
    const { lib, call } = library('odd(Tensor x) -> Tensor')
    lib.impl('odd', kernel as never, 'CPU')
    expect(() => call(ones([1]) as never)).toThrow(message)
  })

  it('that returns too few results is an error', () => {
    const { lib, call } = library('two(Tensor x) -> (Tensor, Tensor)')
    lib.impl('two', (x: Tensor) => [x], 'CPU')
    expect(() => call(ones([1]) as never)).toThrow('must return an array of 2 results')
  })

  it('owns its arguments for the call only', () => {
    const { lib, call } = library('hold(Tensor x) -> ()')
    const held: Tensor[] = []
    lib.impl('hold', (x: Tensor) => void held.push(x), 'CPU')
    const x = ones([1])
    call(x as never)
    expect(held[0]!.disposed).toBe(true)
    expect(x.disposed).toBe(false)
  })

  it('may dispose the tensors of its caller', () => {
    const { lib, call } = library('steal(Tensor(a!) x) -> Tensor(a!)')
    const x = ones([1])
    const steal = (y: Tensor) => {
      x.dispose()
      return aten.add(y, 1)
    }
    lib.impl('steal', steal, 'CPU')
    expect(call(x as never).item()).toBe(2)
  })
})

describe('a Library', () => {
  it('takes its kernels away when it is disposed; the op stays', () => {
    const { lib, call } = library('gone(Tensor x) -> Tensor')
    lib.impl('gone', (x: Tensor) => aten.neg(x), 'CPU')
    expect(call(ones([1]) as never).item()).toBe(-1)
    lib.dispose()
    lib.dispose()
    expect(() => call(ones([1]) as never)).toThrow(expect.objectContaining({ code: 'E_NO_KERNEL' }))
  })

  it('may be disposed by its own kernel', () => {
    const { lib, call } = library('last(Tensor x) -> Tensor')
    const last = (x: Tensor) => {
      lib.dispose()
      return aten.neg(x)
    }
    lib.impl('last', last, 'CPU')
    expect(call(ones([1]) as never).item()).toBe(-1)
  })

  it('defines the same schema twice, and no other of its name', () => {
    const { lib } = library('once(Tensor x) -> Tensor')
    expect(() => lib.define('once(Tensor x) -> Tensor')).not.toThrow()
    expect(() => lib.define('once(Tensor y) -> Tensor')).toThrow(
      expect.objectContaining({ code: 'E_SCHEMA_CONFLICT', fix: expect.stringContaining('npm ls') }),
    )
    expect(() => lib.define('nonsense')).toThrow(expect.objectContaining({ code: 'E_SCHEMA' }))
    expect(() => lib.define('')).toThrow(VllmOpsError)
    expect(() => new Library('x', 'IMPL').define('a() -> ()')).toThrow(
      expect.objectContaining({ code: 'E_SCHEMA' }),
    )
  })

  it('registers one kernel for an op and key', () => {
    const { lib } = library('one(Tensor x) -> Tensor')
    lib.impl('one', (x: Tensor) => x, 'CPU').impl('one', (x: Tensor) => x, 'Meta')
    expect(() => lib.impl('one', (x: Tensor) => x, 'CPU')).toThrow(
      expect.objectContaining({ code: 'E_KERNEL_CONFLICT' }),
    )
    expect(() => new Library('aten', 'IMPL').impl('relu', (x: Tensor) => x, 'CPU')).toThrow(
      expect.objectContaining({ code: 'E_KERNEL_CONFLICT', fix: expect.stringContaining('allowOverride') }),
    )
  })

  it('refuses ops that are not defined, keys that are none, and what is no function', () => {
    const { lib } = library('there(Tensor x) -> Tensor')
    expect(() => lib.impl('their', (x: Tensor) => x, 'CPU')).toThrow(
      expect.objectContaining({ code: 'E_NO_OP' }),
    )
    expect(() => lib.impl('there', (x: Tensor) => x, 'GPU')).toThrow(
      expect.objectContaining({ argument: 'dispatchKey' }),
    )
    expect(() => lib.impl('there', 3 as never, 'CPU')).toThrow(
      expect.objectContaining({ argument: 'kernel' }),
    )
  })
})

describe('loadLibrary', () => {
  it('says why a file is not loaded', () => {
    expect(() => loadLibrary('/no/such/library.so')).toThrow(
      expect.objectContaining({
        code: 'E_BACKEND_UNAVAILABLE',
        message: expect.stringContaining('/no/such/library.so'),
      }),
    )
    expect(() => loadLibrary('a\0b')).toThrow(expect.objectContaining({ argument: 'path' }))
    expect(() => loadLibrary(undefined as never)).toThrow(expect.objectContaining({ argument: 'path' }))
  })
})
