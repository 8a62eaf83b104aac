// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  arange,
  empty,
  loadSafetensors,
  memory,
  ones,
  saveSafetensors,
  scope,
  type Tensor,
  tensor,
  torch,
  VllmOpsError,
} from '@vllm-ops/core'
import { afterAll, describe, expect, it } from 'vitest'

const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-safetensors-'))
afterAll(() => rmSync(folder, { recursive: true }))
const path = join(folder, 'a.safetensors')

/** A file of a header and so many bytes 0, 1, 2, …. */
function write(
  header: unknown,
  bytes = 0,
  { pad = 0, length = undefined as bigint | undefined } = {},
): string {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header))
  const json = Buffer.concat([text, Buffer.alloc(pad, ' ')])
  const start = Buffer.alloc(8)
  start.writeBigUInt64LE(length ?? BigInt(json.length))
  writeFileSync(path, Buffer.concat([start, json, Buffer.from(Array.from({ length: bytes }, (_, i) => i))]))
  return path
}

function raw(bytes: string | Buffer): string {
  writeFileSync(path, bytes)
  return path
}

const f32 = (shape: unknown, data_offsets: unknown) => ({ dtype: 'F32', shape, data_offsets })

describe('safetensors', () => {
  it('come back as they were saved', () => {
    const all = [
      'uint8',
      'int8',
      'int16',
      'int32',
      'int64',
      'float16',
      'bfloat16',
      'float32',
      'float64',
    ] as const
    const saved: Record<string, Tensor> = Object.fromEntries(
      all.map((dtype) => [`of ${dtype}`, arange(0, 7, { dtype })]),
    )
    saved.truths = tensor([true, false, true])
    saved.strided = arange(0, 6).view([2, 3]).transpose(0, 1)
    saved.scalar = tensor(2.5)
    saved.nothing = empty([0, 4])
    saved.small = ones([3]).to('float8_e4m3fn')
    saved.complex = torch.aten.complex!(tensor([1, 2]), tensor([3, 4]))
    saved.__proto__x = ones([1])
    saveSafetensors(path, saved, { format: 'pt' })
    const { tensors, metadata } = loadSafetensors(path)
    expect(metadata).toEqual({ format: 'pt' })
    expect([...tensors.keys()].sort()).toEqual(Object.keys(saved).sort())
    for (const [name, { dtype, shape }] of Object.entries(saved))
      expect({ name, shape: tensors.get(name)?.shape, dtype: tensors.get(name)?.dtype }).toEqual({
        name,
        shape,
        dtype,
      })
    for (const name of Object.keys(saved)) expect(tensors.get(name)?.toJSON()).toEqual(saved[name]?.toJSON())
    expect(readdirSync(folder)).toEqual(['a.safetensors'])
    expect(readFileSync(path).readBigUInt64LE(0) % 8n).toBe(0n)
  })

  it('are mapped: a tensor keeps its bytes when the others are gone, and writes stay here', () => {
    saveSafetensors(path, new Map([['x', ones([1000])]]))
    const { tensors } = loadSafetensors(path)
    const x = tensors.get('x')!
    x.indexPut_([0], 5)
    expect(torch.aten.sum(x).item()).toBe(1004)
    expect(torch.aten.sum(loadSafetensors(path).tensors.get('x')!).item()).toBe(1000)
  })

  it('are read where they are not aligned, and in any order of the header', () => {
    const header = { b: f32([1], [4, 8]), a: f32([1], [0, 4]), __metadata__: {} }
    const { tensors } = loadSafetensors(
      write(header, 8, { pad: (5 - (JSON.stringify(header).length % 4)) % 4 || 1 }),
    )
    expect([...tensors.keys()]).toEqual(['a', 'b'])
    expect(tensors.get('b')!.viewAs('uint8', [4]).toArray()).toEqual([4, 5, 6, 7])
  })

  it('go to a device', () => {
    saveSafetensors(path, { x: ones([2]) })
    expect(loadSafetensors(path, { device: 'meta' }).tensors.get('x')?.device).toBe('meta')
  })

  it.each<[string, () => string, string]>([
    ['no file', () => join(folder, 'none'), 'E_FILE'],
    ['an empty file', () => raw(''), 'it has 0 bytes'],
    ['no room for a length', () => raw('1234567'), 'it has 7 bytes'],
    ['a header beyond the end', () => write({}, 0, { length: 3n }), 'header of 3 bytes does not fit'],
    ['a huge header', () => write({}, 0, { length: 2n ** 64n - 1n }), 'does not fit'],
    ['no JSON', () => write('{"a":'), 'is no JSON'],
    ['no UTF-8', () => raw(Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0xff])), 'is no JSON'],
    ['deep JSON', () => write('['.repeat(200_000)), 'is no JSON'],
    ['an array', () => write([]), 'is no JSON object'],
    ['spaces before the object', () => write(' {}'), 'is no JSON object'],
    ['an entry that is no object', () => write({ a: 3 }), "'a' is no object"],
    ['an unknown dtype', () => write({ a: { ...f32([1], [0, 4]), dtype: 'F3' } }, 4), "dtype 'F3'"],
    [
      "a dtype of Object's",
      () => write({ a: { ...f32([1], [0, 4]), dtype: 'toString' } }, 4),
      "dtype 'toString'",
    ],
    ['a negative size', () => write({ a: f32([-1], [0, 4]) }, 4), 'has shape [ -1 ]'],
    ['a broken size', () => write({ a: f32([1.5], [0, 6]) }, 6), 'has shape [ 1.5 ]'],
    ['no shape', () => write({ a: f32(undefined, [0, 4]) }, 4), 'has shape undefined'],
    [
      'sizes beyond all numbers',
      () => write({ a: f32([2 ** 40, 2 ** 40], [0, 4]) }, 4),
      'needs 4835703278458516698824704 bytes and has 4',
    ],
    [
      'sizes whose product wraps to 0',
      () => write({ a: f32([2 ** 32, 2 ** 32], [0, 0]) }),
      'needs 73786976294838206464 bytes',
    ],
    ['one offset', () => write({ a: f32([1], [0]) }, 4), 'has data_offsets [ 0 ]'],
    ['offsets in the wrong order', () => write({ a: f32([1], [4, 0]) }, 4), 'needs 4 bytes and has -4'],
    ['bytes beyond the end', () => write({ a: f32([2], [0, 8]) }, 4), 'have 8 bytes, and 4 are there'],
    ['bytes left over', () => write({ a: f32([1], [0, 4]) }, 5), 'have 4 bytes, and 5 are there'],
    [
      'an overlap',
      () => write({ a: f32([2], [0, 8]), b: f32([1], [4, 8]) }, 8),
      "'b' begins at byte 4, where 8",
    ],
    [
      'a gap',
      () => write({ a: f32([1], [0, 4]), b: f32([1], [8, 12]) }, 12),
      "'b' begins at byte 8, where 4",
    ],
    ['metadata that are no texts', () => write({ __metadata__: { a: 1 } }), 'is no object of texts'],
  ])('refuse %s', (_, make, message) => {
    const before = memory.live().length
    let thrown: unknown
    try {
      loadSafetensors(make())
    } catch (error) {
      thrown = error
    }
    expect(thrown).toBeInstanceOf(VllmOpsError)
    expect(thrown).toMatchObject(
      message === 'E_FILE'
        ? { code: 'E_FILE' }
        : { code: 'E_MODEL_FORMAT', message: expect.stringContaining(message) },
    )
    // The collector may have freed some of earlier tests.
    expect(memory.live().length).toBeLessThanOrEqual(before)
  })

  it('refuse what cannot be saved, and leave no file', () => {
    rmSync(path, { force: true })
    scope(() => {
      for (const wrong of [{ a: 3 }, { __metadata__: ones([1]) }, { a: ones([1]).to('complex128') }])
        expect(() => saveSafetensors(path, wrong as never)).toThrow(
          expect.objectContaining({ code: 'E_ARGUMENT', op: 'saveSafetensors' }),
        )
      expect(() => saveSafetensors(path, { a: empty([2], { device: 'meta' }) })).toThrow(VllmOpsError)
    })
    expect(readdirSync(folder)).toEqual([])
  })
})
