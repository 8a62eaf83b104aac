// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  type AnyCard,
  type AnyCase,
  cards,
  type DType,
  floatDTypes,
  isWrite,
  parseSchema,
  type TensorShape,
} from '../src/index'
import { cardsByName, families } from '../src/ops'
import { GuardedMemory } from '../src/testing/guarded'
import { SeededRandom } from '../src/testing/random'

function argumentsOf({ schema }: AnyCard) {
  return parseSchema(schema).arguments
}

function specsOf({ args }: AnyCase) {
  return Object.values(args).flatMap((value) => (typeof value === 'object' && value !== null ? value : []))
}

describe('the cards', () => {
  it('stand in one family each, under the name of their op', () => {
    const names = Object.values(families).flatMap((family) => Object.keys(family))
    expect(new Set(names).size).toBe(names.length)
    expect(names.sort()).toEqual(cards.map(({ schema }) => parseSchema(schema).name).sort())
    for (const [name, { schema }] of Object.entries(cardsByName)) expect(parseSchema(schema).name).toBe(name)
  })

  it('have their schema on a line that CMake finds', () => {
    const found = Object.keys(families).flatMap((family) => {
      const text = readFileSync(new URL(`../src/ops/${family}.ts`, import.meta.url), 'utf8')
      return Array.from(text.matchAll(/^ {2}schema: '([^']+)',$/gm), ([, schema]) => schema)
    })
    expect(found.sort()).toEqual(cards.map(({ schema }) => schema).sort())
  })

  it.each(cards)('$schema names its arguments in every case', (card) => {
    const names = argumentsOf(card).map(({ name }) => name)
    for (const dtype of floatDTypes)
      for (const { args } of [...card.cases(dtype), ...card.rejects(dtype)])
        expect(Object.keys(args).sort()).toEqual([...names].sort())
    for (const dtype of floatDTypes)
      for (const { argument } of card.rejects(dtype))
        expect(names).toEqual(expect.arrayContaining([argument].flat()))
    const written = argumentsOf(card)
      .filter(isWrite)
      .map(({ name }) => name)
    expect(written).toEqual(expect.arrayContaining([...(card.exact ?? [])]))
  })

  it.each(cards)('$schema gives each case a name of its own', (card) => {
    for (const dtype of floatDTypes)
      for (const list of [[...card.cases(dtype)], [...card.rejects(dtype)]]) {
        expect(list.length).toBeGreaterThan(0)
        expect(new Set(list.map(({ name }) => name)).size).toBe(list.length)
      }
  })

  it.each(cards)('$schema draws the same numbers every time', (card) => {
    const draw = () => {
      const [first] = card.cases('float32')
      const specs = specsOf(first ?? expect.fail('no case'))
      return specs.map((spec) => new GuardedMemory(spec, new SeededRandom('same')).values)
    }
    expect(draw()).toEqual(draw())
  })

  it.each(cards)('$schema costs a finite amount in every case', (card) => {
    for (const { name, args } of card.cases('bfloat16')) {
      const { flops, bytes } = card.cost(...argumentsOf(card).map((argument) => args[argument.name]))
      expect(
        [flops, bytes].every((value) => Number.isFinite(value) && value >= 0),
        name,
      ).toBe(true)
    }
  })
})

describe('the cost', () => {
  const tensor = (shape: readonly number[], dtype: DType = 'bfloat16'): TensorShape => ({ shape, dtype })

  // By hand, for the shapes of Llama-3-8B.
  it.each([
    ['silu_and_mul', [tensor([4, 14336]), tensor([4, 28672])], 5 * 4 * 14336, 2 * 4 * (14336 + 28672)],
    [
      'rms_norm',
      [tensor([4, 4096]), tensor([4, 4096]), tensor([4096]), 1e-5],
      4 * 4 * 4096,
      2 * (2 * 4 * 4096 + 4096),
    ],
    [
      'fused_add_rms_norm',
      [tensor([4, 4096]), tensor([4, 4096]), tensor([4096]), 1e-5],
      5 * 4 * 4096,
      2 * (4 * 4 * 4096 + 4096),
    ],
    [
      'rotary_embedding',
      [tensor([4], 'int64'), tensor([4, 4096]), tensor([4, 1024]), 128, tensor([8192, 128]), true],
      3 * 4 * (4096 + 1024),
      8 * 4 + 2 * 2 * 4 * (4096 + 1024) + 2 * 4 * 128,
    ],
    [
      'reshape_and_cache',
      [
        tensor([4, 8, 128]),
        tensor([4, 8, 128]),
        tensor([99, 8, 16, 16, 8]),
        tensor([99, 8, 128, 16]),
        tensor([4], 'int64'),
        'auto',
        1,
      ],
      0,
      2 * 2 * 2 * 4 * 1024 + 8 * 4,
    ],
    ['gelu_and_mul', [tensor([4, 14336]), tensor([4, 28672])], 9 * 4 * 14336, 2 * 4 * (14336 + 28672)],
    ['gelu_tanh_and_mul', [tensor([4, 14336]), tensor([4, 28672])], 9 * 4 * 14336, 2 * 4 * (14336 + 28672)],
    ['gelu_new', [tensor([4, 4096]), tensor([4, 4096])], 8 * 4 * 4096, 2 * 2 * 4 * 4096],
    ['gelu_fast', [tensor([4, 4096]), tensor([4, 4096])], 8 * 4 * 4096, 2 * 2 * 4 * 4096],
    ['gelu_quick', [tensor([4, 4096]), tensor([4, 4096])], 5 * 4 * 4096, 2 * 2 * 4 * 4096],
    [
      'batched_rotary_embedding',
      [
        tensor([4], 'int64'),
        tensor([4, 4096]),
        tensor([4, 1024]),
        128,
        tensor([8192, 128]),
        true,
        128,
        tensor([4], 'int64'),
      ],
      3 * 4 * (4096 + 1024),
      2 * 8 * 4 + 2 * 2 * 4 * (4096 + 1024) + 2 * 4 * 128,
    ],
    [
      'reshape_and_cache_flash',
      [
        tensor([4, 8, 128]),
        tensor([4, 8, 128]),
        tensor([99, 16, 8, 128]),
        tensor([99, 16, 8, 128]),
        tensor([4], 'int64'),
        'auto',
      ],
      0,
      2 * 2 * 2 * 4 * 1024 + 8 * 4,
    ],
    [
      'copy_blocks',
      [
        [tensor([99, 8, 16, 16, 8]), tensor([99, 8, 16, 16, 8])],
        [tensor([99, 8, 128, 16]), tensor([99, 8, 128, 16])],
        tensor([3, 2], 'int64'),
      ],
      0,
      4 * 3 * 2 * 2 * 8 * 128 * 16 + 3 * 2 * 8,
    ],
    [
      'swap_blocks',
      [tensor([99, 8, 128, 16]), tensor([9, 8, 128, 16]), tensor([3, 2], 'int64')],
      0,
      3 * 2 * 2 * 8 * 128 * 16 + 3 * 2 * 8,
    ],
    [
      'paged_attention_v1',
      [
        tensor([4, 32, 128]),
        tensor([4, 32, 128]),
        tensor([99, 8, 16, 16, 8]),
        tensor([99, 8, 128, 16]),
        8,
        0.088,
        tensor([4, 7], 'int32'),
        tensor([4], 'int32'),
        16,
        100,
        null,
        'auto',
        1,
        0,
        0,
        0,
        0,
        0,
      ],
      4 * 4 * 100 * 32 * 128,
      2 * 2 * 4 * 32 * 128 + 4 * 4 + 4 * 4 * 7 + 4 * 100 * 2 * 2 * 8 * 128,
    ],
    [
      'skinny_linear',
      [tensor([4, 1024]), tensor([4, 4096]), tensor([1024, 4096])],
      2 * 4 * 4096 * 1024,
      2 * (4 * 1024 + 4 * 4096 + 4096 * 1024),
    ],
    [
      'ggml_dequantize',
      [tensor([4096 * 128 * 20], 'uint8'), 3, 4096, 4096, null],
      2 * 4096 * 4096,
      4096 * 128 * 20 + 2 * 4096 * 4096,
    ],
  ] as const)('of %s is what one counts by hand', (name, args, flops, bytes) => {
    const card: AnyCard = cardsByName[name]
    expect(card.cost(...args)).toEqual({ flops, bytes })
  })
})
