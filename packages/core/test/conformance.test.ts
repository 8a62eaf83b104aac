// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite is worth what it finds: kernels with one fault each, and whether it says so.
import { beforeAll, describe, expect, it } from 'vitest'
import {
  type AnyCard,
  ArgumentError,
  type Backend,
  cards,
  checkArguments,
  evaluate,
  Library,
  type OpArgument,
  setNumThreads,
  Tensor,
  torch,
} from '../src/index'
import { NAMESPACE } from '../src/internal'
import { conformance, type InstructionSets } from '../src/testing'

type Kernel = (...args: OpArgument[]) => OpArgument

function nameOf({ schema }: AnyCard): string {
  return schema.slice(0, schema.indexOf('('))
}

function cardOf(op: string): AnyCard {
  return cards.find((card) => nameOf(card) === op) ?? expect.fail(`no card of ${op}`)
}

/** A right kernel of an op. */
function rightly(op: string): Kernel {
  const card = cardOf(op)
  return (...args) => {
    checkArguments(card, args)
    return evaluate(card, args) as OpArgument
  }
}

// The kernels here are made of many small ops, which several threads only slow down.
beforeAll(() => setNumThreads(1))

let backends = 0

interface Trial {
  op: string
  /** Of the dispatch key CPU; none is registered where absent. */
  kernel?: Kernel
  /** A backend has all ops, or says why not: here all but the one on trial. */
  unsupported?: Record<string, string>
  isas?: InstructionSets
  /** The tests to run, by their names; all where absent. */
  only?: RegExp
}

/** Runs the suite on a backend of one kernel; what failed, by the test's path. */
function failuresOf({ op, kernel, unsupported, isas, only = / / }: Trial): Map<string, string> {
  const others = cards.map(nameOf).filter((name) => name !== op)
  // Taken out again at the end, so that the next trial starts without a kernel.
  using library = new Library(NAMESPACE, 'IMPL')
  const backend: Backend = {
    name: `trial ${++backends}`,
    dispatchKey: 'CPU',
    version: '0.0.0',
    unsupported: { ...Object.fromEntries(others.map((name) => [name, 'not on trial'])), ...unsupported },
    register() {
      if (kernel) library.impl(op, kernel, 'CPU')
    },
  }
  const path: string[] = []
  const before: (() => void)[] = []
  const tests: [string, () => void][] = []
  conformance({
    backend,
    ...(isas ? { isas } : {}),
    ops: [op],
    dtypes: ['float32', 'bfloat16'],
    describe(name, body) {
      path.push(name)
      body()
      path.pop()
    },
    it: (name, body) => tests.push([[...path.slice(2), name].join(' > '), body]),
    beforeAll: (body) => before.push(body),
    afterAll: () => {},
  })
  for (const body of before) body()
  const failures = new Map<string, string>()
  const chosen = tests.filter(([name]) => only.test(name))
  expect(chosen.length).toBeGreaterThan(0)
  for (const [name, body] of chosen) {
    try {
      body()
    } catch (error) {
      failures.set(name, String(error))
    }
  }
  return failures
}

/** A kernel of silu_and_mul that is right, and then does something more. */
function siluAndThen(fault: (out: Tensor, input: Tensor) => void): Kernel {
  const right = rightly('silu_and_mul')
  return (...args) => {
    right(...args)
    const [out, input] = args
    if (out instanceof Tensor && input instanceof Tensor && out.numel > 0) fault(out, input)
    return null
  }
}

/** The memory of a tensor from `first`, counted from its own first element. */
function memory(tensor: Tensor, first: number, count = 1): Tensor {
  return torch.aten.as_strided!(tensor, [count], [1], tensor.storageOffset + first)
}

/** The place behind the last element. */
function end({ shape, strides }: Tensor): number {
  return shape.reduce((last, size, dim) => last + (size - 1) * (strides[dim] ?? 0), 0) + 1
}

function set(tensor: Tensor, value: number): void {
  torch.aten.fill_(tensor, value)
}

const everyCase = { op: 'silu_and_mul' }
const oneCase = 'float32 > 3 x 17'

describe('the conformance suite', () => {
  it('passes a right kernel', () => {
    expect(failuresOf({ ...everyCase, kernel: rightly('silu_and_mul') })).toEqual(new Map())
  })

  it.each([
    ['does nothing', /'out'\[\d+, \d+\]: expected .* received NaN.*51 of 51 elements are wrong/, () => null],
    [
      'leaves out the last element',
      /'out'\[2, 16\]: expected .*, received NaN; allowed: .*; 1 of 51 elements are wrong/,
      siluAndThen((out) => set(memory(out, end(out) - 1), Number.NaN)),
    ],
    [
      'writes an element behind the output',
      /'out': wrote 1 elements behind its last one/,
      siluAndThen((out) => set(memory(out, end(out)), 0)),
    ],
    [
      'writes 16 elements behind the output',
      /'out': wrote 1 elements behind its last one/,
      siluAndThen((out) => set(memory(out, end(out), 16), 0)),
    ],
    [
      'writes before the output',
      /'out': wrote 2 elements before its first one/,
      siluAndThen((out) => set(memory(out, -2), 1)),
    ],
    [
      'writes behind an input',
      /'input': wrote 1 elements behind its last one/,
      siluAndThen((_, input) => set(memory(input, end(input)), 0)),
    ],
    [
      'changes an input',
      /'input': changed element \[0, 3\], which its schema does not allow/,
      siluAndThen((_, input) => set(memory(input, 3), 7)),
    ],
    [
      'reads behind an input',
      /'out'\[0, 0\]: expected .*, received NaN/,
      siluAndThen((out, input) => memory(out, 0).copy_(memory(input, end(input)))),
    ],
    [
      'is a few ulp off',
      /'out'\[\d, \d+\]: expected .* \(\d+(\.\d+)? ulp of float32 apart\); allowed: 4 ulp/,
      siluAndThen((out) => torch.aten.mul_.Scalar!(out, 1 + 2 ** -20)),
    ],
    [
      'throws',
      /threw Error: no such luck/,
      () => {
        throw new Error('no such luck')
      },
    ],
  ] as const)('finds a kernel that %s', (_, message, kernel) => {
    expect(failuresOf({ ...everyCase, kernel, only: / 3 x 17$/ }).get(oneCase)).toMatch(message)
  })

  it('finds a kernel that writes between the rows of its output', () => {
    const failures = failuresOf({
      ...everyCase,
      kernel: siluAndThen((out) => {
        if (out.ndim === 2 && out.strides[0] !== out.shape[1]) set(memory(out, out.shape[1] ?? 0), 0)
      }),
    })
    expect([...failures.keys()].sort()).toEqual(
      ['float32', 'bfloat16']
        .flatMap((dtype) => [`${dtype} > out strided`, `${dtype} > out strided by an odd number, misaligned`])
        .sort(),
    )
    expect(failures.get('float32 > out strided')).toMatch(
      /wrote between its rows, 65 elements behind its first one/,
    )
  })

  it('finds a kernel that is wrong in one dtype only', () => {
    const failures = failuresOf({
      ...everyCase,
      kernel: siluAndThen((out) => {
        if (out.dtype === 'bfloat16') torch.aten.mul_.Scalar!(out, 1.02)
      }),
    })
    expect([...failures.keys()].filter((name) => !name.startsWith('bfloat16'))).toEqual([])
    expect(failures.get('bfloat16 > 3 x 17')).toMatch(/ulp of bfloat16 apart\); allowed: 1 ulp/)
  })

  it('finds a kernel that rounds a sum twice where it must be the nearest value', () => {
    const right = rightly('fused_add_rms_norm')
    const failures = failuresOf({
      op: 'fused_add_rms_norm',
      only: / 3 x 17$/,
      kernel: (...args) => {
        right(...args)
        const [, residual] = args
        if (residual instanceof Tensor && residual.dtype === 'float32')
          torch.aten.mul_.Scalar!(residual, 1 + 2 ** -23)
        return null
      },
    })
    expect(failures.get('float32 > 3 x 17')).toMatch(/'residual'\[.*allowed: the nearest number/)
  })

  it('finds a kernel that does not check its arguments', () => {
    const card = cardOf('silu_and_mul')
    const failures = failuresOf({ ...everyCase, kernel: (...args) => evaluate(card, args) as OpArgument })
    expect(failures.get('float32, refuses > two dtypes')).toMatch(
      /returned; expected an ArgumentError for out/,
    )
    expect(failures.get('float32, refuses > a wider output')).toMatch(
      /threw TorchError.*; expected an ArgumentError for out/s,
    )
  })

  it('finds a kernel that blames the wrong argument, and one that writes before it checks', () => {
    const right = rightly('silu_and_mul')
    const blaming = failuresOf({
      ...everyCase,
      kernel: (...args) => {
        const [out, input] = args
        if (out instanceof Tensor && input instanceof Tensor && out.dtype !== input.dtype)
          throw new ArgumentError('vllm_ops::silu_and_mul', 'input', 'another dtype', input.dtype)
        return right(...args)
      },
    })
    expect(blaming.get('float32, refuses > two dtypes')).toMatch(/blamed the argument 'input', expected out/)
    const early = failuresOf({
      ...everyCase,
      kernel: (...args) => {
        const [out] = args
        if (out instanceof Tensor && out.numel > 0) set(memory(out, 0), 5)
        return right(...args)
      },
    })
    expect(early.get('float32, refuses > two dtypes')).toMatch(/'out': changed element \[0, 0\]/)
  })

  it('finds attention that reads the keys in another layout', () => {
    const card = cardOf('paged_attention_v1')
    const failures = failuresOf({
      op: 'paged_attention_v1',
      only: / > (heads of (64|80|128)|blocks of (8|32)|ALiBi|peaked)$/,
      kernel: (...args) => {
        checkArguments(card, args)
        // As if twice as many elements of a head lay side by side: every key is another permutation of the block's numbers.
        const [, , keys] = args
        if (!(keys instanceof Tensor) || !keys.isContiguous) return evaluate(card, args) as OpArgument
        const [blocks = 0, heads = 0, parts = 0, blockSize = 0, x = 0] = keys.shape
        if (parts % 2 !== 0) return evaluate(card, args) as OpArgument
        const memory = keys.view([blocks, heads, parts / 2, blockSize, 2, x])
        const misread = torch.aten.permute(memory, [0, 1, 2, 4, 3, 5])
        return evaluate(card, args.with(2, misread.reshape(keys.shape))) as OpArgument
      },
    })
    // Seven cases in two dtypes: none may pass.
    expect([...failures.values()].filter((problem) => problem.includes("'out'"))).toHaveLength(14)
  })

  it('does not look into working memory, but at what lies behind it', () => {
    const right = rightly('paged_attention_v2')
    const keeping = (places: (scratch: Tensor) => number) =>
      failuresOf({
        op: 'paged_attention_v2',
        only: / > ALiBi$/,
        kernel: (...args) => {
          right(...args)
          const [, , , scratch] = args
          if (scratch instanceof Tensor) set(memory(scratch, 0, places(scratch)), 3)
          return null
        },
      })
    expect(keeping((scratch) => scratch.numel)).toEqual(new Map())
    expect(keeping((scratch) => scratch.numel + 1).get('float32 > ALiBi')).toMatch(
      /'tmp_out': wrote 1 elements behind its last one/,
    )
  })

  it('finds a result of another dtype', () => {
    const right = rightly('ggml_dequantize')
    const failures = failuresOf({
      op: 'ggml_dequantize',
      only: /Q4_1, 3 x 96/,
      kernel: (...args) => {
        const result = right(...args)
        return result instanceof Tensor ? result.to('float32') : result
      },
    })
    expect(failures.get('bfloat16 > Q4_1, 3 x 96')).toMatch(
      /result 0 is float32\[3, 96\] on cpu, expected bfloat16\[3, 96\] on cpu/,
    )
  })

  it('does not take another kernel for the own one', () => {
    using composite = new Library(NAMESPACE, 'IMPL')
    composite.impl('silu_and_mul', rightly('silu_and_mul'), 'CompositeExplicitAutograd')
    expect(() => failuresOf(everyCase)).toThrow(/no CPU kernel for silu_and_mul/)
  })

  it('finds another instruction set than the one asked for', () => {
    let current = 'baseline'
    const isas: InstructionSets = {
      names: ['baseline', 'avx2'],
      set() {
        // Falls back without a word.
        current = 'baseline'
      },
      current: () => current,
    }
    const failures = failuresOf({ ...everyCase, kernel: rightly('silu_and_mul'), isas })
    expect(failures.get('float32, avx2 > 3 x 17')).toMatch(/ran on baseline, asked for avx2/)
    expect([...failures.keys()].every((name) => name.includes('avx2'))).toBe(true)
  })

  it('lets an unsupported op fail, and no more', () => {
    const unsupported = { silu_and_mul: 'too hard' }
    expect(failuresOf({ ...everyCase, unsupported })).toEqual(new Map())
    expect(failuresOf({ ...everyCase, unsupported, kernel: () => null })).toEqual(new Map())
    const passes = failuresOf({ ...everyCase, unsupported, kernel: rightly('silu_and_mul') })
    expect(passes.get('is not supported: too hard')).toMatch(/but all cases pass: take it off the list/)
  })

  it('refuses to test nothing', () => {
    expect(() => failuresOf({ op: 'no_such_op', kernel: () => null })).toThrow(/tests nothing/)
  })
})
