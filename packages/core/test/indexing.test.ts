// SPDX-License-Identifier: Apache-2.0
import { ArgumentError, arange, type Index, memory, ones, scope, type Tensor, tensor } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'

/** 0 to 23 as [2, 3, 4]. */
const cube = () => arange(0, 24).view([2, 3, 4])
const numbers = (x: Tensor) => JSON.parse(JSON.stringify(x.toJSON().data))

describe('index', () => {
  it.each<[string, Index[], unknown]>([
    [
      'x[1]',
      [1],
      [
        [12, 13, 14, 15],
        [16, 17, 18, 19],
        [20, 21, 22, 23],
      ],
    ],
    ['x[-1, -1, -1]', [-1, -1, -1], 23],
    [
      'x[:, 1, 1:3]',
      [{}, 1, { start: 1, end: 3 }],
      [
        [5, 6],
        [17, 18],
      ],
    ],
    [
      'x[..., 0]',
      ['...', 0],
      [
        [0, 4, 8],
        [12, 16, 20],
      ],
    ],
    [
      'x[0, ..., ::2]',
      [0, '...', { step: 2 }],
      [
        [0, 2],
        [4, 6],
        [8, 10],
      ],
    ],
    ['x[1, None, 2]', [1, null, 2], [[20, 21, 22, 23]]],
    [
      'x[:, :, -2:]',
      [{}, {}, { start: -2 }],
      [
        [
          [2, 3],
          [6, 7],
          [10, 11],
        ],
        [
          [14, 15],
          [18, 19],
          [22, 23],
        ],
      ],
    ],
  ])('%s', (_, indices, expected) => {
    const x = cube()
    const part = x.index(...indices)
    expect(numbers(part)).toEqual(expected)
    // A view: what is written there is written here.
    part.indexPut_([], 99)
    expect(
      numbers(x)
        .flat(3)
        .filter((value: number) => value === 99),
    ).toHaveLength(part.numel)
  })

  it('chooses by tensors, into memory of its own', () => {
    const x = cube()
    const places = tensor([2n, 0n])
    expect(numbers(x.index(0, places))).toEqual([
      [8, 9, 10, 11],
      [0, 1, 2, 3],
    ])
    expect(numbers(x.index({}, 0, places))).toEqual([
      [2, 0],
      [14, 12],
    ])
    expect(numbers(x.index('...', places))).toEqual([
      [
        [2, 0],
        [6, 4],
        [10, 8],
      ],
      [
        [14, 12],
        [18, 16],
        [22, 20],
      ],
    ])
    // Indices apart from each other: what they choose comes first.
    expect(numbers(x.index(tensor([1n]), {}, places))).toEqual([
      [14, 18, 22],
      [12, 16, 20],
    ])
    const truths = tensor([
      [true, false, false],
      [false, false, true],
    ])
    expect(numbers(x.index(truths))).toEqual([
      [0, 1, 2, 3],
      [20, 21, 22, 23],
    ])
    expect(numbers(x.index(truths, 1))).toEqual([1, 21])
    x.index(0, places).indexPut_([], 0)
    expect(numbers(x)).toEqual(numbers(cube()))
  })

  it('writes numbers and tensors', () => {
    const x = ones([3, 3], { dtype: 'int32' })
    expect(x.indexPut_([0], 5)).toBe(x)
    x.indexPut_([{}, 1], tensor([7, 8, 9], { dtype: 'int32' }))
    x.indexPut_([tensor([2n]), tensor([0n, 2n])], 0)
    expect(x.toArray()).toEqual([
      [5, 7, 5],
      [1, 8, 1],
      [0, 9, 0],
    ])
  })

  it('leaves nothing behind', () => {
    scope(() => {
      const x = cube()
      // Those that were made from here on: the collector frees what earlier tests forgot.
      memory.track(true)
      x.index({}, 1, tensor([0n])).dispose()
      x.indexPut_([0, null, '...'], 1)
      const left = memory.live().filter(({ madeAt }) => madeAt !== undefined)
      memory.track(false)
      // The index, which belongs to this scope.
      expect(left).toMatchObject([{ dtype: 'int64', shape: [1] }])
    })
  })

  it.each<[string, unknown[], string]>([
    ['too many', [0, 0, 0, 0], 'at most 3 for this tensor, received 4'],
    ['beyond the end', [2], 'a position of -2 to 1 at index 0, received 2'],
    ['beyond the start', [0, -4], 'a position of -3 to 2 at index 1, received -4'],
    ['two gaps', ['...', '...'], "one '...', received 2"],
    ['a fraction', [0.5], 'received 0.5 at index 0'],
    ['a text', ['1'], "received '1' at index 0"],
    ['an array', [[0, 1]], 'at index 0'],
    ['a misspelt slice', [{ stop: 1 }], 'received { stop: 1 } at index 0'],
    ['undefined', [undefined], 'received undefined at index 0'],
  ])('refuses %s', (_, indices, message) => {
    const x = cube()
    for (const call of [() => x.index(...(indices as Index[])), () => x.indexPut_(indices as Index[], 1)]) {
      expect(call).toThrow(ArgumentError)
      expect(call).toThrow(message)
    }
    expect(() => x.indexPut_(3 as never, 1)).toThrow('an array of indices')
  })
})
