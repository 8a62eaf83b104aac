// SPDX-License-Identifier: Apache-2.0
import { defineOp } from './card'
import { filled, input, layouts, otherDType, output } from './case'
import { bytes, product, roundedOnce, wide } from './math'

/**
 * `out = input @ weight.T`: a linear layer for few tokens at a time, where reading the weight once is all the time there is. aten's
 * `mm` is the one for many.
 *
 * - `input` [tokens, in] and `weight` [out, in]: float32, float16 or bfloat16, both the same; rows of contiguous elements, each tensor
 *   at any one stride.
 * - `out` [tokens, out], rows likewise: of the same dtype, accumulated in float32 and rounded once, or float32, not rounded (logits,
 *   whose best two may round to the same number).
 */
export const skinny_linear = defineOp({
  schema: 'skinny_linear(Tensor(a!) out, Tensor input, Tensor weight) -> ()',

  check(expect, out, input, weight) {
    expect.floating('input', input)
    expect.rank('input', input, 2)
    const [tokens = 0, inputs = 0] = input.shape
    expect.dtype('weight', weight, input.dtype)
    expect.rank('weight', weight, 2)
    const [outputs = 0] = weight.shape
    expect.shape('weight', weight, outputs, inputs)
    expect.dtype('out', out, input.dtype, 'float32')
    expect.shape('out', out, tokens, outputs)
  },

  reference(aten, out, input, weight) {
    aten('copy_', out, aten('matmul', wide(input), aten('transpose.int', wide(weight), 0, 1)))
  },

  *cases(dtype) {
    const call = (tokens: number, inputs: number, outputs: number) => ({
      out: output([tokens, outputs], dtype),
      input: input([tokens, inputs], dtype),
      weight: input([outputs, inputs], dtype),
    })
    for (const inputs of [1, 7, 8, 17, 31, 63, 64, 65, 576, 1536, 4097])
      yield { name: `1 x ${inputs} to 9`, args: call(1, inputs, 9) }
    for (const outputs of [1, 2, 3, 4, 5, 7, 8, 63, 576, 1025])
      yield { name: `1 x 72 to ${outputs}`, args: call(1, 72, outputs) }
    for (const tokens of [2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 130])
      yield { name: `${tokens} x 200 to 33`, args: call(tokens, 200, 33) }
    for (const tokens of [1, 2, 4]) yield { name: `${tokens} x 576 to 1536`, args: call(tokens, 576, 1536) }
    for (const outputs of [3, 4, 5]) yield { name: `2 x 72 to ${outputs}`, args: call(2, 72, outputs) }
    for (const tokens of [1, 2, 3, 9, 17])
      yield { name: `${tokens} x 2312 to 9`, args: call(tokens, 2312, 9) }
    yield { name: 'no tokens', args: call(0, 64, 9) }
    yield { name: 'no outputs', args: call(3, 64, 0) }
    yield { name: 'no inputs', args: call(3, 0, 9) }
    if (dtype !== 'float32')
      for (const tokens of [1, 2, 3, 8, 17])
        yield {
          name: `${tokens} x 576 to 33, float32 out`,
          args: { ...call(tokens, 576, 33), out: output([tokens, 33], 'float32') },
        }
    for (const { name, layout } of layouts([3, 72])) {
      yield { name: `input ${name}`, args: { ...call(3, 72, 9), input: input([3, 72], dtype, layout) } }
      yield { name: `out ${name}`, args: { ...call(3, 9, 72), out: output([3, 72], dtype, layout) } }
    }
    for (const { name, layout } of layouts([9, 72]))
      yield { name: `weight ${name}`, args: { ...call(1, 72, 9), weight: input([9, 72], dtype, layout) } }
    yield {
      name: 'weight transposed',
      mayRefuse: 'weight',
      args: { ...call(3, 72, 9), weight: input([9, 72], dtype, { strides: [1, 9] }) },
    }
  },

  *rejects(dtype) {
    const good = {
      out: output([3, 8], dtype),
      input: input([3, 16], dtype),
      weight: input([8, 16], dtype),
    }
    const other = otherDType(dtype)
    yield {
      name: 'integers',
      argument: ['input', 'out', 'weight'],
      args: { ...good, input: filled([3, 16], 'int32', [1]) },
    }
    yield {
      name: 'weight of another dtype',
      argument: 'weight',
      args: { ...good, weight: input([8, 16], other) },
    }
    const narrow = dtype === 'bfloat16' ? 'float16' : 'bfloat16'
    yield { name: 'out of another dtype', argument: 'out', args: { ...good, out: output([3, 8], narrow) } }
    yield { name: 'float64 out', argument: 'out', args: { ...good, out: output([3, 8], 'float64') } }
    yield { name: 'weight transposed', argument: 'weight', args: { ...good, weight: input([16, 8], dtype) } }
    yield { name: 'input of one dimension', argument: 'input', args: { ...good, input: input([16], dtype) } }
    yield {
      name: 'weight of one dimension',
      argument: 'weight',
      args: { ...good, weight: input([16], dtype) },
    }
    yield {
      name: 'fewer tokens in the output',
      argument: 'out',
      args: { ...good, out: output([2, 8], dtype) },
    }
    yield {
      name: 'fewer outputs',
      argument: ['out', 'weight'],
      args: { ...good, out: output([3, 7], dtype) },
    }
    yield { name: 'out of one dimension', argument: 'out', args: { ...good, out: output([24], dtype) } }
  },

  tolerance: roundedOnce({
    ulps: 1,
    absolute: 2 ** -14,
    reason:
      'sums of up to 4097 products of N(0, 1) reach 256, and lanes of some hundred additions err by half an ulp each',
  }),

  cost: (out, input, weight) => ({
    flops: 2 * product(input.shape) * (weight.shape[0] ?? 0),
    bytes: bytes(out, input, weight),
  }),
})
