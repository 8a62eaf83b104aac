// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import {
  ArgumentError,
  arange,
  empty,
  fromBuffer,
  fromTypedArray,
  full,
  generator,
  getNumThreads,
  manualSeed,
  mapFile,
  ones,
  rand,
  randn,
  setNumThreads,
  tensor,
  torch,
  zeros,
} from '@vllm-ops/core'
import { afterAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-factories-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('creation', () => {
  it('gives the shape, dtype and device that were asked for', () => {
    expect(empty([2, 3])).toMatchObject({ shape: [2, 3], dtype: 'float32', device: 'cpu' })
    expect(zeros([], { dtype: 'bool' }).item()).toBe(false)
    expect(ones([2], { dtype: 'int64' }).toArray()).toEqual([1n, 1n])
    expect(full([2], 2.5, { dtype: 'bfloat16' }).toArray()).toEqual([2.5, 2.5])
    expect(full([1], (1n << 62n) + 1n, { dtype: 'int64' }).item()).toBe((1n << 62n) + 1n)
    expect(arange(0, 3)).toMatchObject({ dtype: 'int64', shape: [3] })
    expect(arange(0, 1, { step: 0.25 }).toArray()).toEqual([0, 0.25, 0.5, 0.75])
    expect(rand([3], { device: 'meta', dtype: 'float16' })).toMatchObject({
      device: 'meta',
      dtype: 'float16',
    })
  })

  it('refuses what is no shape and no option', () => {
    for (const shape of [null, 3.5, '2', [1.5], [Number.NaN], ['2'], [2 ** 60]])
      expect(() => zeros(shape as never)).toThrow(
        expect.objectContaining({ code: expect.stringMatching(/^E_(ARGUMENT|TORCH|OUT_OF_MEMORY)$/) }),
      )
    expect(() => zeros([1], null as never)).toThrow('expected an object such as { dtype }, received null')
    expect(() => zeros([1], { dtyp: 'int8' } as never)).toThrow(
      "expected one of dtype, device, pinMemory, received 'dtyp'",
    )
    expect(() => zeros([1], { dtype: 'foo' as 'int8' })).toThrow("expected a dtype such as 'float32'")
  })

  it('of random numbers repeats with a seed', () => {
    manualSeed(5)
    const first = randn([4]).toArray()
    manualSeed(5n)
    expect(randn([4]).toArray()).toEqual(first)
    using a = generator(7)
    using b = generator(7)
    expect(rand([3], { generator: a }).toArray()).toEqual(rand([3], { generator: b }).toArray())
    expect(rand([3], { generator: a }).toArray()).not.toEqual(rand([3]).toArray())
    for (const seed of [-1, 0.5, 1n << 64n, '1', null])
      expect(() => manualSeed(seed as number)).toThrow(expect.objectContaining({ argument: 'seed' }))
    expect(() => generator(1, 'gpu')).toThrow(expect.objectContaining({ code: 'E_NO_DEVICE' }))
  })

  it('uses as many threads as were set', () => {
    const before = getNumThreads()
    setNumThreads(1)
    expect(getNumThreads()).toBe(1)
    setNumThreads(before)
    for (const threads of [0, -1, 1.5, Number.NaN, 2 ** 31])
      expect(() => setNumThreads(threads)).toThrow(ArgumentError)
  })
})

describe('tensor()', () => {
  it('takes nested arrays', () => {
    expect(
      tensor([
        [1, 2],
        [3, 4],
      ]),
    ).toMatchObject({ dtype: 'float32', shape: [2, 2] })
    expect(tensor([1n]).dtype).toBe('int64')
    expect(tensor([[true]]).dtype).toBe('bool')
    expect(tensor([[], []]).shape).toEqual([2, 0])
    expect(tensor([0.1], { dtype: 'float16' }).item()).toBeCloseTo(0.1, 4)
    expect(tensor([1], { device: 'meta' }).device).toBe('meta')
  })

  it('refuses what is ragged or no number', () => {
    expect(() => tensor([[1], [1, 2]])).toThrow('expected arrays of 1 in dimension 1, received one of 2')
    expect(() => tensor([1, [2]] as never)).toThrow('expected 1 dimensions, received a deeper array')
    expect(() => tensor(['1'] as never)).toThrow('expected numbers, bigints or booleans, received string')
    expect(() => tensor([0.5], { dtype: 'int64' })).toThrow(ArgumentError)
    expect(() => tensor([1], { dtype: 'nope' as 'int8' })).toThrow(
      "expected a dtype such as 'float32', received 'nope'",
    )
  })
})

describe('memory of JavaScript', () => {
  it('is shared, both ways', () => {
    const array = new Float32Array(6)
    const x = fromTypedArray(array, [2, 3])
    torch.aten.add_(x, 2)
    array[0] = 9
    expect(array[5]).toBe(2)
    expect(x.select(0, 0).toArray()).toEqual([9, 2, 2])
    expect(fromTypedArray(new Uint16Array([0x3f80]), [1], { dtype: 'bfloat16' }).item()).toBe(1)
    expect(fromTypedArray(new Float64Array(4), undefined, { dtype: 'complex128' }).shape).toEqual([2])
    expect(fromBuffer(new Uint8Array([0, 0, 1, 0, 2, 0]).subarray(2), 0, [2], 'int16').toArray()).toEqual([
      1, 2,
    ])
    expect(fromBuffer(new ArrayBuffer(8), 8, [0], 'float64').shape).toEqual([0])
  })

  it('of another realm is as good', () => {
    expect(fromTypedArray(runInNewContext('new Float32Array([1, 2])')).toArray()).toEqual([1, 2])
    expect(fromBuffer(runInNewContext('new ArrayBuffer(4)'), 0, [1], 'int32').item()).toBe(0)
  })

  it('is kept alive by the tensor', async () => {
    let array: Float64Array | undefined = new Float64Array(1 << 16).fill(3)
    const x = fromTypedArray(array)
    array = undefined
    for (let i = 0; i < 50; i++) new Float64Array(1 << 16).fill(i)
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(torch.aten.sum(x).item()).toBe(3 * (1 << 16))
  })

  it('that was transferred away is an error in every later use', () => {
    const array = new Float32Array([1, 2, 3])
    const x = fromTypedArray(array)
    const view = x.narrow(0, 1, 1)
    const moved = structuredClone(array, { transfer: [array.buffer] })
    for (const use of [
      () => torch.aten.neg(x),
      () => torch.aten.add_(view, 1),
      () => x.data(),
      () => view.toArray(),
      () => torch.aten.cat([x]),
    ])
      expect(use).toThrow(
        expect.objectContaining({
          code: 'E_ARGUMENT',
          received: expect.stringContaining('transferred away'),
        }),
      )
    expect(x.shape).toEqual([3])
    expect(moved).toEqual(new Float32Array([1, 2, 3]))
  })

  it.each([
    [
      'shared',
      () => fromTypedArray(new Float32Array(new SharedArrayBuffer(4))),
      'an ArrayBuffer or a view of one',
      'SharedArrayBuffer',
    ],
    [
      'no memory',
      () => fromBuffer({} as ArrayBuffer, 0, [1], 'int8'),
      'an ArrayBuffer or a view of one',
      'Object',
    ],
    ['no typed array', () => fromTypedArray([1, 2] as never), 'a typed array', 'Array'],
    [
      'a DataView',
      () => fromTypedArray(new DataView(new ArrayBuffer(4)) as never),
      'a typed array',
      'DataView',
    ],
    [
      'too small',
      () => fromBuffer(new ArrayBuffer(7), 0, [2], 'float32'),
      'at most 7 bytes',
      '[2] of 8 bytes',
    ],
    [
      'too small by far',
      () => fromBuffer(new ArrayBuffer(8), 0, [2 ** 50, 2 ** 50], 'int8'),
      'at most 8 bytes',
      expect.stringContaining('bytes'),
    ],
    [
      'behind the end',
      () => fromBuffer(new ArrayBuffer(8), 16, [0], 'int8'),
      'at most 0 bytes',
      '[0] of 0 bytes',
    ],
    [
      'a negative offset',
      () => fromBuffer(new ArrayBuffer(8), -4, [1], 'int32'),
      'a whole number of 0 and more',
      '-4',
    ],
    [
      'a negative size',
      () => fromBuffer(new ArrayBuffer(8), 0, [-1], 'int32'),
      'whole numbers of 0 and more',
      '[-1]',
    ],
    [
      'not aligned',
      () => fromBuffer(new ArrayBuffer(8), 2, [1], 'float32'),
      'elements at a multiple of 4 bytes of the buffer',
      'byte 2',
    ],
    [
      'another size',
      () => fromTypedArray(new Float32Array(2), [2], { dtype: 'bfloat16' }),
      'a dtype of 4 bytes an element',
      "'bfloat16'",
    ],
    [
      'no dtype',
      () => fromTypedArray(new Float32Array(2), [2], { dtype: 'f32' as 'float32' }),
      "a dtype such as 'float32'",
      "'f32'",
    ],
  ])('is refused: %s', (_, call, expected, received) => {
    expect(call).toThrow(expect.objectContaining({ code: 'E_ARGUMENT', expected, received }))
  })

  it('is refused when it was transferred or may shrink', () => {
    const buffer = new ArrayBuffer(8)
    structuredClone(buffer, { transfer: [buffer] })
    expect(() => fromBuffer(buffer, 0, [1], 'int8')).toThrow('expected at most 0 bytes')
    const resizable = Reflect.construct(ArrayBuffer, [8, { maxByteLength: 16 }])
    expect(() => fromBuffer(resizable, 0, [1], 'int8')).toThrow('received a resizable one')
  })
})

describe('mapFile()', () => {
  it('gives the bytes of a file, and never writes to it', () => {
    const path = join(folder, 'bytes')
    writeFileSync(path, Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8]))
    const bytes = mapFile(path)
    const words = bytes.slice(0, 4, 8).viewAs('int16', [2])
    bytes.dispose()
    expect(words.toArray()).toEqual([0x0605, 0x0807])
    torch.aten.zero_(words)
    expect(mapFile(path).toArray()).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(words.data()).toEqual(new Int16Array(2))
  })

  it('says what is wrong with a file', () => {
    const path = join(folder, 'empty')
    writeFileSync(path, '')
    expect(mapFile(path).shape).toEqual([0])
    expect(() => mapFile(join(folder, 'none'))).toThrow(
      expect.objectContaining({ code: 'E_FILE', message: expect.stringContaining('No such file') }),
    )
    expect(() => mapFile(folder)).toThrow('is not a regular file')
    expect(() => mapFile(`${path}\0.gguf`)).toThrow(ArgumentError)
    expect(() => mapFile(3 as never)).toThrow("argument 'path'")
  })
})
