// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { defineOp } from './card'
import { extremes, filled, input, layouts, otherDType, output } from './case'
import { bytes, product, roundedOnce, wide, width, withWidth } from './math'

/** Whether silu(x) is less than float32's smallest normal number, but not 0: a kernel may take it for 0, and 0 * Infinity is NaN. */
function vanishes(x: number): boolean {
  const value = x / (1 + Math.exp(-x))
  return value !== 0 && Math.abs(value) < 2 ** -126
}

/**
 * `out = silu(gate) * up` with `silu(x) = x / (1 + exp(-x))`, where `gate` is the first and `up` the second half of `input`'s last
 * dimension: the activation of SwiGLU (Shazeer, "GLU Variants Improve Transformer", 2020); vLLM's `silu_and_mul`.
 *
 * - `out` [..., d] and `input` [..., 2d]: float32, float16 or bfloat16, rows of contiguous elements at any one stride.
 * - The product is rounded once. Where it is too large for the dtype it is infinite; `silu(-inf)` is NaN, as torch's is.
 */
export const silu_and_mul = defineOp({
  schema: 'silu_and_mul(Tensor(a!) out, Tensor input) -> ()',

  check(expect, out, input) {
    expect.floating('input', input)
    expect.rank('input', input, 1, Number.POSITIVE_INFINITY)
    expect.that('input', input, width(input) % 2 === 0, 'an even last dimension')
    expect.dtype('out', out, input.dtype)
    expect.shape('out', out, ...withWidth(input.shape, width(input) / 2))
  },

  reference(aten, out, input) {
    const [gate, up] = aten<[Tensor, Tensor]>('chunk', wide(input), 2, -1)
    aten('copy_', out, aten('mul.Tensor', aten('silu', gate), up))
  },

  *cases(dtype) {
    const call = (tokens: readonly number[], d: number) => ({
      out: output([...tokens, d], dtype),
      input: input([...tokens, 2 * d], dtype),
    })
    for (const d of [1, 7, 8, 17, 63, 64, 65, 576, 1536, 4097]) yield { name: `3 x ${d}`, args: call([3], d) }
    yield { name: 'no tokens', args: call([0], 64) }
    yield { name: 'no width', args: call([3], 0) }
    yield { name: 'one dimension', args: call([], 65) }
    yield { name: 'three dimensions', args: call([2, 3], 65) }
    yield { name: '1 x 4096', args: call([1], 4096) }
    yield { name: '1025 x 72', args: call([1025], 72) }
    // Enough for every thread, in shares of unequal size.
    yield { name: '129 x 1536', args: call([129], 1536) }
    for (const { name, layout } of layouts([5, 2 * 65])) {
      yield { name: `input ${name}`, args: { ...call([5], 65), input: input([5, 2 * 65], dtype, layout) } }
      yield { name: `out ${name}`, args: { ...call([5], 65), out: output([5, 65], dtype, layout) } }
    }
    yield {
      name: 'input transposed',
      mayRefuse: 'input',
      args: { ...call([5], 72), input: input([5, 144], dtype, { strides: [1, 5] }) },
    }
    const values = extremes(dtype)
    const all = values
      .flatMap((gate) => values.map((up) => [gate, up] as const))
      .filter(([gate, up]) => !vanishes(gate) || Math.abs(up) <= 1)
    yield {
      name: 'infinite, NaN, the largest, the smallest',
      args: {
        out: output([all.length], dtype),
        input: filled([2 * all.length], dtype, [...all.map(([gate]) => gate), ...all.map(([, up]) => up)]),
      },
    }
  },

  *rejects(dtype) {
    const good = { out: output([3, 8], dtype), input: input([3, 16], dtype) }
    yield { name: 'integers', argument: 'input', args: { ...good, input: filled([3, 16], 'int32', [1]) } }
    yield {
      name: 'float64',
      argument: 'input',
      args: { out: output([3, 8], 'float64'), input: input([3, 16], 'float64') },
    }
    yield { name: 'two dtypes', argument: 'out', args: { ...good, out: output([3, 8], otherDType(dtype)) } }
    yield {
      name: 'an odd width',
      argument: ['input', 'out'],
      args: { ...good, input: input([3, 17], dtype) },
    }
    yield { name: 'a scalar', argument: ['input', 'out'], args: { ...good, input: input([], dtype) } }
    yield { name: 'a wider output', argument: 'out', args: { ...good, out: output([3, 9], dtype) } }
    yield {
      name: 'an output as wide as the input',
      argument: 'out',
      args: { ...good, out: output([3, 16], dtype) },
    }
    yield {
      name: 'fewer tokens in the output',
      argument: 'out',
      args: { ...good, out: output([2, 8], dtype) },
    }
    yield {
      name: 'more tokens in the output',
      argument: 'out',
      args: { ...good, out: output([4, 8], dtype) },
    }
    yield {
      name: 'another rank of the output',
      argument: 'out',
      args: { ...good, out: output([1, 3, 8], dtype) },
    }
  },

  tolerance: roundedOnce({
    ulps: 4,
    absolute: 2 ** -126,
    reason: 'exp, sum, quotient and product err by an ulp each; subnormal results may be 0',
  }),

  cost: (out, input) => ({ flops: 5 * product(out.shape), bytes: bytes(out, input) }),
})
