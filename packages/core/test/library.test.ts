// SPDX-License-Identifier: Apache-2.0
import {
  type DispatchKey,
  empty,
  Library,
  loadLibrary,
  type OpArgument,
  type OpOverload,
  ones,
  type Tensor,
  tensor,
  torch,
  VllmOpsError,
  withDispatchKeys,
} from '@vllm-ops/core'
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

describe('the keys of a kernel', () => {
  it.each<[DispatchKey | undefined, string[]]>([
    ['CPU', ['cpu']],
    ['Meta', ['meta']],
    ['CompositeExplicitAutograd', ['cpu', 'meta']],
    ['CompositeImplicitAutograd', ['cpu', 'meta']],
    [undefined, ['cpu', 'meta']],
  ])('%s is for tensors on its devices', (key, devices) => {
    const { lib, call } = library('where(Tensor x) -> str')
    lib.impl('where', (x: Tensor) => `on ${x.device}`, key)
    for (const device of ['cpu', 'meta']) {
      const run = () => call<string>(empty([1], { device }) as never)
      if (devices.includes(device)) expect(run()).toBe(`on ${device}`)
      else expect(run).toThrow(expect.objectContaining({ code: 'E_NO_KERNEL' }))
    }
  })

  it('choose among several kernels, the narrower first', () => {
    const { lib, call } = library('pick(Tensor x) -> str')
    lib
      .impl('pick', () => 'anywhere', 'CompositeExplicitAutograd')
      .impl('pick', () => 'cpu', 'CPU')
      .impl('pick', () => 'cuda', 'CUDA')
    expect(call<string>(ones([1]) as never)).toBe('cpu')
    expect(call<string>(empty([1], { device: 'meta' }) as never)).toBe('anywhere')
  })

  it('may be told by redispatch', () => {
    const { lib } = library('hand(Tensor x, *, int n=1) -> int')
    lib.impl('hand', (_: Tensor, n: number) => n, 'CPU').impl('hand', (_: Tensor, n: number) => -n, 'CUDA')
    const op = torch[`test_${spaces}`]!.hand!.default!
    const x = ones([1])
    expect(op<number>(x, { n: 5 })).toBe(5)
    expect(op.redispatch<number>('CUDA', x, { n: 5 })).toBe(-5)
    expect(op.redispatch<number>(['CPU', 'CUDA'], x)).toBe(-1)
    expect(op<number>(x)).toBe(1)
    expect(() => op.redispatch('HPU', x)).toThrow(expect.objectContaining({ code: 'E_NO_KERNEL' }))
    expect(() => op.redispatch('CPU', 3)).toThrow(expect.objectContaining({ argument: 'x' }))
    for (const key of ['Nonsense', 'CompositeExplicitAutograd'])
      expect(() => op.redispatch(key, x)).toThrow(expect.objectContaining({ argument: 'dispatchKey' }))
    expect(op<number>(x)).toBe(1)
  })
})

describe('a fallback', () => {
  const MODE = 'TESTING_ONLY_GenericMode'
  const all = () => {
    const lib = new Library('_', 'IMPL')
    libraries.push(lib)
    return lib
  }

  it('gets every op, with its arguments as a call has them', () => {
    const seen: string[] = []
    all().fallback((op: OpOverload, ...args: never[]) => {
      seen.push(op.opName)
      return withDispatchKeys({ exclude: [MODE] }, () => op<OpArgument>(...args))
    }, MODE)
    const inMode = <T>(fn: () => T) => withDispatchKeys({ include: [MODE] }, fn)
    const y = inMode(() => aten.linear(ones([2, 3]), ones([4, 3])))
    expect(y.toArray()).toEqual([Array(4).fill(3), Array(4).fill(3)])
    expect(seen).toEqual(['aten::ones', 'aten::ones', 'aten::linear'])
    expect(inMode(() => aten.add(ones([1]), ones([1]), { alpha: 3 })).item()).toBe(4)
    const x = ones([2])
    expect(inMode(() => aten.add_(x, 1))).toBe(x)
    expect(x.toArray()).toEqual([2, 2])
    const [values, indices] = inMode(() => torch.aten.sort!<[Tensor, Tensor]>(tensor([2, 1])))
    expect([values.toArray(), indices.toArray()]).toEqual([
      [1, 2],
      [1n, 0n],
    ])
    const count = seen.length
    aten.neg(x)
    expect(seen).toHaveLength(count)
  })

  it('gets what ops in C++ call, where it leaves the mode on', () => {
    const seen: string[] = []
    all().fallback((op: OpOverload, ...args: never[]) => {
      seen.push(op.opName)
      return op.redispatch<OpArgument>('CPU', ...args)
    }, MODE)
    const y = withDispatchKeys({ include: [MODE] }, () => aten.linear(ones([2, 3]), ones([4, 3])))
    expect(y.toArray()).toEqual([Array(4).fill(3), Array(4).fill(3)])
    expect(seen).toEqual(expect.arrayContaining(['aten::ones', 'aten::linear', 'aten::t', 'aten::matmul']))
  })

  it('throws through C++, and leaves the keys as they were', () => {
    const mine = new Error('mine')
    all().fallback(() => {
      throw mine
    }, MODE)
    const x = ones([2, 2])
    expect(() => withDispatchKeys({ include: [MODE] }, () => aten.linear(x, x))).toThrow(mine)
    expect(aten.linear(x, x).toArray()).toEqual([
      [2, 2],
      [2, 2],
    ])
  })

  it('is one of a key, and goes with its library', () => {
    const lib = all().fallback(() => null, MODE)
    expect(() => all().fallback(() => null, MODE)).toThrow(
      expect.objectContaining({ code: 'E_KERNEL_CONFLICT' }),
    )
    lib.dispose()
    expect(() => all().fallback(() => null, MODE)).not.toThrow()
    expect(() => all().fallback(() => null, 'Meta')).toThrow(
      expect.objectContaining({ code: 'E_KERNEL_CONFLICT', message: expect.stringContaining('fallback') }),
    )
    for (const key of ['CompositeExplicitAutograd', 'Nonsense'])
      expect(() => all().fallback(() => null, key)).toThrow(
        expect.objectContaining({ argument: 'dispatchKey' }),
      )
    expect(() => new Library('aten', 'IMPL').fallback(() => null, 'HPU')).toThrow(
      expect.objectContaining({ argument: 'namespace' }),
    )
    expect(() => all().impl('relu', () => null, 'CPU')).toThrow(expect.objectContaining({ argument: 'name' }))
  })

  it('needs a synchronous function around it', () => {
    expect(() => withDispatchKeys({}, async () => 1)).toThrow(expect.objectContaining({ argument: 'fn' }))
  })
})

describe('errors', () => {
  it('keep the stack of both sides', () => {
    const { lib, call } = library('stacked(Tensor x) -> Tensor')
    const innerKernel = (x: Tensor) => aten.mm(x, x)
    lib.impl('stacked', innerKernel, 'CPU')
    let caught: unknown
    try {
      call(ones([1]) as never)
    } catch (error) {
      caught = error
    }
    expect(caught).toMatchObject({ code: 'E_TORCH', op: 'aten::mm' })
    expect((caught as Error).stack).toMatch(/at aten::mm [\s\S]*innerKernel/)
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

  it.each([
    ['my', 'FRAGMENTS', 'kind'],
    ['my', undefined, 'kind'],
    ['', 'IMPL', 'namespace'],
    ['my::own', 'FRAGMENT', 'namespace'],
    [undefined, 'FRAGMENT', 'namespace'],
  ])('is not made of namespace %j and kind %j', (namespace, kind, argument) => {
    const make = () => new Library(namespace as string, kind as 'IMPL')
    expect(make).toThrow(expect.objectContaining({ code: 'E_ARGUMENT', argument }))
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
