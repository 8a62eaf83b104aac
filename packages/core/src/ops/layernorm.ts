// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '../tensor'
import { type Aten, defineOp, type FloatDType } from './card'
import { filled, input, layouts, otherDType, output, type TensorSpec } from './case'
import { bytes, product, roundedOnce, wide, width } from './math'

/** `x / sqrt(mean(x²) + epsilon) * weight` over the last dimension. */
function normalized(aten: Aten, x: Tensor, weight: Tensor, epsilon: number): Tensor {
  const meanSquare = aten('mean.dim', aten('mul.Tensor', x, x), [-1], true)
  const scale = aten('rsqrt', aten('add.Scalar', meanSquare, epsilon))
  return aten('mul.Tensor', aten('mul.Tensor', x, scale), wide(weight))
}

const WIDTHS = [1, 7, 8, 17, 63, 64, 65, 576, 1536, 4097]

/** Shapes of the normalized tensor that every norm is tried on. */
const SHAPES: readonly (readonly [name: string, shape: readonly number[]])[] = [
  ...WIDTHS.map((hidden) => [`3 x ${hidden}`, [3, hidden]] as const),
  ['no tokens', [0, 64]],
  ['one dimension', [65]],
  ['three dimensions', [2, 3, 65]],
  ['1 x 4096', [1, 4096]],
  ['1025 x 72', [1025, 72]],
  // Enough for every thread, in shares of unequal size.
  ['129 x 1536', [129, 1536]],
]

/** Rows whose mean of squares over- or underflows float16, or is far from what epsilon would leave unnoticed. */
const ROW_SCALES = [1, 300, 1e-4, 3000, 0, 1e-3]

function scaledRows(shape: readonly [number, number], dtype: FloatDType): TensorSpec {
  const scale = (index: number) => ROW_SCALES[Math.floor(index / shape[1]) % ROW_SCALES.length] ?? 1
  return { shape, dtype, fill: (index, random) => scale(index) * random.normal() }
}

const NORM_TOLERANCE = {
  ulps: 8,
  absolute: 2 ** -126,
  reason:
    'the sum of squares is accumulated in several lanes: sqrt(n) ulp for 4096 elements, divided by 4 or more lanes',
}

/**
 * `out = input / sqrt(mean(input²) + epsilon) * weight` over the last dimension: root mean square layer normalization (Zhang and
 * Sennrich, 2019); vLLM's `rms_norm`.
 *
 * - `out`, `input` [..., hidden]: float32, float16 or bfloat16, rows of contiguous elements at any one stride.
 * - `weight` [hidden], contiguous, of the same dtype.
 * - Everything is float32 inside and rounded once.
 */
export const rms_norm = defineOp({
  schema: 'rms_norm(Tensor(a!) out, Tensor input, Tensor weight, float epsilon) -> ()',

  check(expect, out, input, weight) {
    expect.floating('input', input)
    expect.rank('input', input, 1, Number.POSITIVE_INFINITY)
    expect.dtype('out', out, input.dtype)
    expect.shape('out', out, ...input.shape)
    expect.dtype('weight', weight, input.dtype)
    expect.shape('weight', weight, width(input))
  },

  reference(aten, out, input, weight, epsilon) {
    aten('copy_', out, normalized(aten, wide(input), weight, epsilon))
  },

  *cases(dtype) {
    const call = (shape: readonly number[], epsilon = 1e-5) => ({
      out: output(shape, dtype),
      input: input(shape, dtype),
      weight: input(shape.slice(-1), dtype),
      epsilon,
    })
    for (const [name, shape] of SHAPES) yield { name, args: call(shape) }
    yield { name: 'a large epsilon', args: call([3, 65], 0.5) }
    yield {
      name: 'large, small and zero rows',
      args: { ...call([6, 72], 1e-6), input: scaledRows([6, 72], dtype) },
    }
    for (const { name, layout } of layouts([5, 65])) {
      yield { name: `input ${name}`, args: { ...call([5, 65]), input: input([5, 65], dtype, layout) } }
      yield { name: `out ${name}`, args: { ...call([5, 65]), out: output([5, 65], dtype, layout) } }
    }
    yield { name: 'weight misaligned', args: { ...call([5, 72]), weight: input([72], dtype, { offset: 1 }) } }
    yield {
      name: 'weight with gaps',
      mayRefuse: 'weight',
      args: { ...call([5, 72]), weight: input([72], dtype, { strides: [2] }) },
    }
    yield {
      name: 'input transposed',
      mayRefuse: 'input',
      args: { ...call([5, 72]), input: input([5, 72], dtype, { strides: [1, 5] }) },
    }
  },

  *rejects(dtype) {
    const good = {
      out: output([3, 16], dtype),
      input: input([3, 16], dtype),
      weight: input([16], dtype),
      epsilon: 1e-5,
    }
    yield {
      name: 'float64',
      argument: ['input', 'out'],
      args: {
        ...good,
        out: output([3, 16], 'float64'),
        input: input([3, 16], 'float64'),
        weight: input([16], 'float64'),
      },
    }
    yield {
      name: 'integers',
      argument: ['input', 'out'],
      args: { ...good, input: filled([3, 16], 'int32', [1]) },
    }
    yield {
      name: 'weight of another dtype',
      argument: 'weight',
      args: { ...good, weight: input([16], otherDType(dtype)) },
    }
    yield {
      name: 'out of another dtype',
      argument: ['out', 'input'],
      args: { ...good, out: output([3, 16], otherDType(dtype)) },
    }
    yield { name: 'a longer weight', argument: 'weight', args: { ...good, weight: input([17], dtype) } }
    yield { name: 'a shorter weight', argument: 'weight', args: { ...good, weight: input([15], dtype) } }
    yield { name: 'a weight to broadcast', argument: 'weight', args: { ...good, weight: input([1], dtype) } }
    yield {
      name: 'a weight of two dimensions',
      argument: 'weight',
      args: { ...good, weight: input([1, 16], dtype) },
    }
    yield {
      name: 'fewer tokens in the output',
      argument: 'out',
      args: { ...good, out: output([2, 16], dtype) },
    }
    yield { name: 'another rank of the output', argument: 'out', args: { ...good, out: output([48], dtype) } }
    yield { name: 'a scalar', argument: ['input', 'out'], args: { ...good, input: input([], dtype) } }
  },

  tolerance: roundedOnce(NORM_TOLERANCE),

  cost: (out, input, weight) => ({ flops: 4 * product(input.shape), bytes: bytes(out, input, weight) }),
})

/**
 * `residual = input + residual`, then `input = rms_norm(residual)`, both in place: the end of one decoder block and the beginning of
 * the next in one pass over memory; vLLM's `fused_add_rms_norm`.
 *
 * - `input`, `residual` [..., hidden]: float32, float16 or bfloat16, rows of contiguous elements, each at any one stride.
 * - `weight` [hidden], contiguous, of the same dtype; `epsilon` as in {@link rms_norm}.
 * - The sum is rounded once. The norm may be taken of the rounded or of the unrounded sum.
 */
export const fused_add_rms_norm = defineOp({
  // biome-ignore format: CMake reads it as one line
  schema: 'fused_add_rms_norm(Tensor(a0!) input, Tensor(a1!) residual, Tensor weight, float epsilon) -> ()',

  check(expect, input, residual, weight) {
    expect.floating('input', input)
    expect.rank('input', input, 1, Number.POSITIVE_INFINITY)
    expect.dtype('residual', residual, input.dtype)
    expect.shape('residual', residual, ...input.shape)
    expect.dtype('weight', weight, input.dtype)
    expect.shape('weight', weight, width(input))
  },

  reference(aten, input, residual, weight, epsilon) {
    const sum = aten('add.Tensor', wide(input), wide(residual))
    aten('copy_', residual, sum)
    aten('copy_', input, normalized(aten, sum, weight, epsilon))
  },

  *cases(dtype) {
    const call = (shape: readonly number[], epsilon = 1e-5) => ({
      input: input(shape, dtype),
      residual: input(shape, dtype),
      weight: input(shape.slice(-1), dtype),
      epsilon,
    })
    for (const [name, shape] of SHAPES) yield { name, args: call(shape) }
    yield { name: 'a large epsilon', args: call([3, 65], 0.5) }
    yield {
      name: 'large, small and zero rows',
      args: { ...call([6, 72], 1e-6), residual: scaledRows([6, 72], dtype) },
    }
    for (const { name, layout } of layouts([5, 65])) {
      yield { name: `input ${name}`, args: { ...call([5, 65]), input: input([5, 65], dtype, layout) } }
      yield { name: `residual ${name}`, args: { ...call([5, 65]), residual: input([5, 65], dtype, layout) } }
    }
    yield { name: 'weight misaligned', args: { ...call([5, 72]), weight: input([72], dtype, { offset: 1 }) } }
    yield {
      name: 'residual transposed',
      mayRefuse: 'residual',
      args: { ...call([5, 72]), residual: input([5, 72], dtype, { strides: [1, 5] }) },
    }
  },

  *rejects(dtype) {
    const good = {
      input: input([3, 16], dtype),
      residual: input([3, 16], dtype),
      weight: input([16], dtype),
      epsilon: 1e-5,
    }
    yield {
      name: 'integers',
      argument: ['input', 'residual'],
      args: { ...good, input: filled([3, 16], 'int32', [1]) },
    }
    yield {
      name: 'residual of another dtype',
      argument: ['residual', 'input'],
      args: { ...good, residual: input([3, 16], otherDType(dtype)) },
    }
    yield {
      name: 'weight of another dtype',
      argument: 'weight',
      args: { ...good, weight: input([16], otherDType(dtype)) },
    }
    yield { name: 'a longer weight', argument: 'weight', args: { ...good, weight: input([17], dtype) } }
    yield { name: 'a weight to broadcast', argument: 'weight', args: { ...good, weight: input([1], dtype) } }
    yield {
      name: 'fewer tokens in the residual',
      argument: ['residual', 'input'],
      args: { ...good, residual: input([2, 16], dtype) },
    }
    yield {
      name: 'a residual to broadcast',
      argument: ['residual', 'input'],
      args: { ...good, residual: input([16], dtype) },
    }
  },

  tolerance: {
    float32: NORM_TOLERANCE,
    float16: {
      ...NORM_TOLERANCE,
      ulps: 2,
      reason: 'rounded once, and once more where the norm is that of the rounded sum',
    },
    bfloat16: {
      ...NORM_TOLERANCE,
      ulps: 2,
      reason: 'rounded once, and once more where the norm is that of the rounded sum',
    },
  },
  exact: ['residual'],

  cost: (input, residual, weight) => ({
    flops: 5 * product(input.shape),
    bytes: 2 * bytes(input, residual) + bytes(weight),
  }),
})
