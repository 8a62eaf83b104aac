// SPDX-License-Identifier: Apache-2.0
//
// Large results are written past the caches, by other code than small ones: a call with many tokens has to give, bit by bit, what
// calls with few of them give.
import { arange, empty, ops, randn, type Tensor, torch, use, zeros } from '@vllm-ops/core'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import cpu, { isa, isas, setIsa } from '../src/index'

const DTYPES = ['float32', 'bfloat16'] as const
// Above 8 MiB of results; a multiple of no number of threads.
const TOKENS = 323
const WIDTH = 14336
let first: string

beforeAll(() => {
  use(cpu, { strict: true })
  first = isa()
})
afterAll(() => setIsa(first))

/** Calls `part` for 19 tokens at a time. */
function inParts(part: (start: number, length: number) => void): void {
  for (let start = 0; start < TOKENS; start += 19) part(start, 19)
}

const bytesOf = (tensor: Tensor): Buffer => {
  const { buffer, byteOffset, byteLength } = tensor.data()
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** The blocks of a cache, and the elements of a key that lie side by side. */
const BLOCKS_OF = 96
const HEADS = 8
const HEAD_SIZE = 80

describe.each(isas())('%s', (name) => {
  beforeAll(() => setIsa(name))

  it.each(DTYPES)('silu_and_mul, %s', (dtype) => {
    const x = randn([TOKENS, 2 * WIDTH], { dtype })
    const [whole, parts] = [empty([TOKENS, WIDTH], { dtype }), empty([TOKENS, WIDTH], { dtype })]
    ops.silu_and_mul(whole, x)
    inParts((start, length) => ops.silu_and_mul(parts.narrow(0, start, length), x.narrow(0, start, length)))
    expect(bytesOf(whole).equals(bytesOf(parts))).toBe(true)
  })

  it.each(DTYPES)('rms_norm, %s', (dtype) => {
    const x = randn([TOKENS, WIDTH], { dtype })
    const weight = randn([WIDTH], { dtype })
    const [whole, parts] = [empty([TOKENS, WIDTH], { dtype }), empty([TOKENS, WIDTH], { dtype })]
    ops.rms_norm(whole, x, weight, 1e-5)
    inParts((start, length) =>
      ops.rms_norm(parts.narrow(0, start, length), x.narrow(0, start, length), weight, 1e-5),
    )
    expect(bytesOf(whole).equals(bytesOf(parts))).toBe(true)
  })

  it.each(DTYPES.flatMap((dtype) => [8, 16, 24, 32, 48].map((blockSize) => [dtype, blockSize] as const)))(
    'reshape_and_cache, %s, blocks of %i',
    (dtype, blockSize) => {
      const x = dtype === 'float32' ? 4 : 8
      const slots = BLOCKS_OF * 8
      const blocks = slots / blockSize
      const fused = randn([slots, 3, HEADS, HEAD_SIZE], { dtype })
      const [key, value] = [fused.select(1, 0), fused.select(1, 2)]
      // All slots but the first three and the last, whole blocks in an order of their own.
      const order = torch.aten!.randperm!(blocks, { dtype: 'int64' }).reshape([blocks, 1])
      const mapping = torch.aten!.add!(
        torch.aten!.mul!(order, blockSize),
        arange(0, blockSize, { dtype: 'int64' }),
      )
        .reshape([slots])
        .narrow(0, 3, slots - 4)
        .contiguous()
      const caches = () =>
        [
          zeros([blocks, HEADS, HEAD_SIZE / x, blockSize, x], { dtype }),
          zeros([blocks, HEADS, HEAD_SIZE, blockSize], { dtype }),
        ] as const
      const write = ([keys, values]: readonly [Tensor, Tensor], start: number, length: number) =>
        ops.reshape_and_cache(
          key.narrow(0, start, length),
          value.narrow(0, start, length),
          keys,
          values,
          mapping.narrow(0, start, length),
          'auto',
          1,
        )
      const [whole, parts] = [caches(), caches()]
      write(whole, 0, slots - 4)
      for (let start = 0; start < slots - 4; start += 4) write(parts, start, 4)
      expect(whole.map((cache, i) => bytesOf(cache).equals(bytesOf(parts[i]!)))).toEqual([true, true])
    },
  )
})
