// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { type Aten, defineOp, type FloatDType, type TensorShape, type Tolerance } from './card'
import { extremes, filled, input, layouts, otherDType, output } from './case'
import type { Expect } from './expect'
import { bytes, product, roundedOnce, wide, width, withWidth } from './math'

/** What an activation is made of. */
interface Activation {
  /** Its definition in aten ops. */
  readonly of: (aten: Aten, x: Tensor) => Tensor
  /** About z in `x / (1 + exp(-z))`, the form that all of them have: tells where the result is lost to float32. */
  readonly exponent: (x: number) => number
  readonly flops: number
  /** How far float32 kernels may be off. */
  readonly float32: Tolerance
}

/** Where exp(-z) is infinite to float32, a result is 0 in place of less than this. */
const LEAST = 2 ** -120

/** `x * sigmoid(z)`: the tanh form without its cancellation, since `(1 + tanh(z / 2)) / 2 = sigmoid(z)`. */
function swish(aten: Aten, x: Tensor, z: Tensor): Tensor {
  return aten('mul.Tensor', x, aten('sigmoid', z))
}

const ROUNDED_EXPONENT: Tolerance = {
  ulps: 32,
  absolute: 2 ** -42,
  reason:
    'exp errs by two ulps for each unit of its argument, which is rounded three times and up to 14 for values of N(0, 1); beyond that results are below 2^-26',
}

const silu: Activation = {
  of: (aten, x) => aten('silu', x),
  exponent: (x) => x,
  flops: 4,
  float32: {
    ulps: 4,
    absolute: LEAST,
    reason: 'exp, sum, quotient and product err by an ulp each; results below 2^-120 may be 0',
  },
}

const geluTanh: Activation = {
  of(aten, x) {
    const inner = aten('add.Scalar', aten('mul.Scalar', aten('mul.Tensor', x, x), 0.044715), 1)
    return swish(aten, x, aten('mul.Scalar', aten('mul.Tensor', x, inner), Math.sqrt(8 / Math.PI)))
  },
  exponent: (x) => Math.sqrt(8 / Math.PI) * x * (1 + 0.044715 * x * x),
  flops: 8,
  float32: ROUNDED_EXPONENT,
}

const gelu: Activation = {
  // x Φ(x) by erfc, which loses nothing to cancellation where Φ is small.
  of(aten, x) {
    const twice = aten('special_erfc', aten('mul.Scalar', x, -Math.SQRT1_2))
    return aten('mul.Tensor', x, aten('mul.Scalar', twice, 0.5))
  },
  exponent: geluTanh.exponent,
  flops: 8,
  float32: ROUNDED_EXPONENT,
}

const geluQuick: Activation = {
  of: (aten, x) => swish(aten, x, aten('mul.Scalar', x, 1.702)),
  exponent: (x) => 1.702 * x,
  flops: 5,
  float32: ROUNDED_EXPONENT,
}

/** Shapes of the output that every activation is tried on. */
const SHAPES: readonly (readonly [name: string, tokens: readonly number[], d: number])[] = [
  ...[1, 7, 8, 17, 63, 64, 65, 576, 1536, 4097].map((d) => [`3 x ${d}`, [3], d] as const),
  ['no tokens', [0], 64],
  ['no width', [3], 0],
  ['one dimension', [], 65],
  ['three dimensions', [2, 3], 65],
  ['1 x 4096', [1], 4096],
  // The widest rows of today's models, shared by many blocks of threads where there are few tokens.
  ['1 x 28672', [1], 28672],
  ['2 x 14337', [2], 14337],
  ['1025 x 72', [1025], 72],
  // Enough for every thread, in shares of unequal size.
  ['129 x 1536', [129], 1536],
]

/** The tolerance of an activation's results: those of 16 bits bear nothing of float32's errors but the last rounding. */
function toleranceOf({ float32 }: Activation) {
  return { ...roundedOnce({ ...float32, absolute: LEAST }), float32 }
}

/** Whether activation(x) * up has one right result: a kernel may take what is below `LEAST` for 0, and 0 * Infinity is NaN. */
function survives({ exponent }: Activation, x: number, up: number): boolean {
  const value = x / (1 + Math.exp(-exponent(x)))
  return value === 0 || !(Math.abs(value) < LEAST) || Math.abs(up) <= 1
}

function* rejectsOf(dtype: FloatDType, inputWidth: number) {
  const good = { out: output([3, 8], dtype), input: input([3, inputWidth], dtype) }
  yield {
    name: 'integers',
    argument: 'input' as const,
    args: { ...good, input: filled([3, inputWidth], 'int32', [1]) },
  }
  yield {
    name: 'float64',
    argument: 'input' as const,
    args: { out: output([3, 8], 'float64'), input: input([3, inputWidth], 'float64') },
  }
  const wrong = {
    'two dtypes': output([3, 8], otherDType(dtype)),
    'a wider output': output([3, 9], dtype),
    'a narrower output': output([3, 7], dtype),
    'fewer tokens in the output': output([2, 8], dtype),
    'more tokens in the output': output([4, 8], dtype),
    'another rank of the output': output([1, 3, 8], dtype),
  }
  for (const [name, out] of Object.entries(wrong))
    yield { name, argument: 'out' as const, args: { ...good, out } }
  yield {
    name: 'a scalar',
    argument: ['input', 'out'] as const,
    args: { ...good, input: input([], dtype) },
  }
}

/** The card, but for the schema, of `out = activation(gate) * up` with a row of `input` being [gate | up]. */
function gated(activation: Activation) {
  const call = (dtype: FloatDType, tokens: readonly number[], d: number) => ({
    out: output([...tokens, d], dtype),
    input: input([...tokens, 2 * d], dtype),
  })
  return {
    check(expect: Expect, out: Tensor, input: Tensor): void {
      expect.floating('input', input)
      expect.rank('input', input, 1, Number.POSITIVE_INFINITY)
      expect.that('input', input, width(input) % 2 === 0, 'an even last dimension')
      expect.dtype('out', out, input.dtype)
      expect.shape('out', out, ...withWidth(input.shape, width(input) / 2))
    },

    reference(aten: Aten, out: Tensor, input: Tensor): void {
      const [gate, up] = aten<[Tensor, Tensor]>('chunk', wide(input), 2, -1)
      aten('copy_', out, aten('mul.Tensor', activation.of(aten, gate), up))
    },

    *cases(dtype: FloatDType) {
      for (const [name, tokens, d] of SHAPES) yield { name, args: call(dtype, tokens, d) }
      for (const { name, layout } of layouts([5, 2 * 65])) {
        const good = call(dtype, [5], 65)
        yield { name: `input ${name}`, args: { ...good, input: input([5, 2 * 65], dtype, layout) } }
        yield { name: `out ${name}`, args: { ...good, out: output([5, 65], dtype, layout) } }
      }
      // The second half begins off every vector's alignment though the first does not, or both do.
      yield { name: 'an odd width, wide', args: call(dtype, [2], 2051) }
      yield {
        name: 'wide rows, all misaligned',
        args: {
          out: output([3, 2048], dtype, { offset: 1 }),
          input: input([3, 4096], dtype, { offset: 1 }),
        },
      }
      yield {
        name: 'input transposed',
        mayRefuse: 'input' as const,
        args: { ...call(dtype, [5], 72), input: input([5, 144], dtype, { strides: [1, 5] }) },
      }
      const values = extremes(dtype)
      const all = values
        .flatMap((gate) => values.map((up) => [gate, up] as const))
        .filter(([gate, up]) => survives(activation, gate, up))
      yield {
        name: 'infinite, NaN, the largest, the smallest',
        args: {
          out: output([all.length], dtype),
          input: filled([2 * all.length], dtype, [...all.map(([gate]) => gate), ...all.map(([, up]) => up)]),
        },
      }
    },

    *rejects(dtype: FloatDType) {
      yield* rejectsOf(dtype, 16)
      const good = { out: output([3, 8], dtype), input: input([3, 16], dtype) }
      yield {
        name: 'an odd width',
        argument: ['input', 'out'] as const,
        args: { ...good, input: input([3, 17], dtype) },
      }
      yield {
        name: 'an output as wide as the input',
        argument: 'out' as const,
        args: { ...good, out: output([3, 16], dtype) },
      }
    },

    tolerance: toleranceOf(activation),

    cost: (out: TensorShape, input: TensorShape) => ({
      flops: (activation.flops + 1) * product(out.shape),
      bytes: bytes(out, input),
    }),
  }
}

/** The card, but for the schema, of `out = activation(input)`. */
function elementwise(activation: Activation) {
  const call = (dtype: FloatDType, tokens: readonly number[], d: number) => ({
    out: output([...tokens, d], dtype),
    input: input([...tokens, d], dtype),
  })
  return {
    check(expect: Expect, out: Tensor, input: Tensor): void {
      expect.floating('input', input)
      expect.rank('input', input, 1, Number.POSITIVE_INFINITY)
      expect.dtype('out', out, input.dtype)
      expect.shape('out', out, ...input.shape)
    },

    reference(aten: Aten, out: Tensor, input: Tensor): void {
      aten('copy_', out, activation.of(aten, wide(input)))
    },

    *cases(dtype: FloatDType) {
      for (const [name, tokens, d] of SHAPES) yield { name, args: call(dtype, tokens, d) }
      for (const { name, layout } of layouts([5, 65])) {
        const good = call(dtype, [5], 65)
        yield { name: `input ${name}`, args: { ...good, input: input([5, 65], dtype, layout) } }
        yield { name: `out ${name}`, args: { ...good, out: output([5, 65], dtype, layout) } }
      }
      yield {
        name: 'wide rows, all misaligned',
        args: {
          out: output([3, 2048], dtype, { offset: 1 }),
          input: input([3, 2048], dtype, { offset: 1 }),
        },
      }
      yield {
        name: 'input transposed',
        mayRefuse: 'input' as const,
        args: { ...call(dtype, [5], 72), input: input([5, 72], dtype, { strides: [1, 5] }) },
      }
      const values = extremes(dtype)
      yield {
        name: 'infinite, NaN, the largest, the smallest',
        args: { out: output([values.length], dtype), input: filled([values.length], dtype, values) },
      }
      // Every size of the result, far into the tail where it vanishes.
      const steps = Array.from({ length: 4001 }, (_, i) => (i - 2000) / 100)
      yield {
        name: 'from -20 to 20',
        args: { out: output([4001], dtype), input: filled([4001], dtype, steps) },
      }
    },

    *rejects(dtype: FloatDType) {
      yield* rejectsOf(dtype, 8)
    },

    tolerance: toleranceOf(activation),

    cost: (out: TensorShape, input: TensorShape) => ({
      flops: activation.flops * product(out.shape),
      bytes: bytes(out, input),
    }),
  }
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
  ...gated(silu),
})

/**
 * `out = gelu(gate) * up` with `gelu(x) = x Φ(x) = x (1 + erf(x / √2)) / 2`, where `gate` is the first and `up` the second half of
 * `input`'s last dimension: GEGLU (Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016; Shazeer, 2020); vLLM's `gelu_and_mul`.
 * Shapes, dtypes, rounding and infinities as in {@link silu_and_mul}.
 */
export const gelu_and_mul = defineOp({
  schema: 'gelu_and_mul(Tensor(a!) out, Tensor input) -> ()',
  ...gated(gelu),
})

/**
 * `out = gelu(gate) * up` with gelu's approximation `x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`, where `gate` is the first and `up`
 * the second half of `input`'s last dimension; vLLM's `gelu_tanh_and_mul`. Shapes, dtypes, rounding and infinities as in
 * {@link silu_and_mul}: x³ is never rounded to the dtype, in which it would overflow.
 */
export const gelu_tanh_and_mul = defineOp({
  schema: 'gelu_tanh_and_mul(Tensor(a!) out, Tensor input) -> ()',
  ...gated(geluTanh),
})

/**
 * `out = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2` of every element x of `input`: the gelu of GPT-2; vLLM's `gelu_new`.
 *
 * - `out`, `input` [..., d]: float32, float16 or bfloat16, rows of contiguous elements at any one stride. `out` may be `input` itself.
 * - The value is rounded once; of -inf it is NaN, as torch's is.
 */
export const gelu_new = defineOp({
  schema: 'gelu_new(Tensor(a!) out, Tensor input) -> ()',
  ...elementwise(geluTanh),
})

/**
 * `out = x (1 + tanh(0.7978845608 x (1 + 0.044715 x²))) / 2` of every element x of `input`; vLLM's `gelu_fast`. It is
 * {@link gelu_new} with √(2/π) written to ten digits and the terms in another order; exactly computed, the two are one.
 */
export const gelu_fast = defineOp({
  schema: 'gelu_fast(Tensor(a!) out, Tensor input) -> ()',
  ...elementwise(geluTanh),
})

/**
 * `out = x / (1 + exp(-1.702 x))` of every element x of `input`: gelu's approximation by a logistic function (Hendrycks and Gimpel,
 * 2016); vLLM's `gelu_quick`. Shapes, dtypes and rounding as in {@link gelu_new}.
 */
export const gelu_quick = defineOp({
  schema: 'gelu_quick(Tensor(a!) out, Tensor input) -> ()',
  ...elementwise(geluQuick),
})
