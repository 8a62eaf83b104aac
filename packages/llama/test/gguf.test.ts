// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ModelFormatError } from '../src/errors'
import { openGguf } from '../src/gguf/gguf'
import { type GgufSpec, ggmlBytes, type TensorSpec, withFile, writeGguf } from './gguf-writer'

const Q4_1 = 3
const F32 = 0

const tensor = (
  name: string,
  shape: number[],
  typeId = Q4_1,
  more: Partial<TensorSpec> = {},
): TensorSpec => ({
  name,
  shape,
  typeId,
  data: new Uint8Array(ggmlBytes(typeId, shape)).fill(7),
  ...more,
})

const spec: GgufSpec = {
  metadata: {
    'general.name': { type: 'string', value: 'Tiny ünïcode' },
    'a.uint8': { type: 'uint8', value: 255 },
    'a.uint32': { type: 'uint32', value: 4294967295 },
    'a.int32': { type: 'int32', value: -5 },
    'a.uint64': { type: 'uint64', value: 2 ** 40 },
    'a.float32': { type: 'float32', value: 0.5 },
    'a.float64': { type: 'float64', value: 0.1 },
    'a.bool': { type: 'bool', value: true },
    'a.strings': { type: 'strings', value: ['x', '', '__proto__', '終'] },
    'a.int32s': { type: 'int32s', value: [1, -2, 3] },
  },
  tensors: [tensor('first', [3, 64]), tensor('second', [5], F32), tensor('third', [2, 2, 32])],
}

/** The error that opening a file of these bytes ends with. */
async function errorOf(bytes: Uint8Array): Promise<ModelFormatError> {
  const outcome = await withFile(bytes, (path) => openGguf(path).catch((error: unknown) => error))
  expect(outcome).toBeInstanceOf(ModelFormatError)
  expect(outcome).toMatchObject({ code: 'E_MODEL_FORMAT' })
  return outcome as ModelFormatError
}

describe('a whole file', () => {
  it('gives every kind of metadata value', async () => {
    const { metadata } = await withFile(writeGguf(spec).bytes, openGguf)
    expect(metadata.string('general.name')).toBe('Tiny ünïcode')
    expect(metadata.integer('a.uint8', { min: 0, max: 255 })).toBe(255)
    expect(metadata.integer('a.uint32', { min: 0, max: 2 ** 32 })).toBe(4294967295)
    expect(metadata.integer('a.int32', { min: -9, max: 9 })).toBe(-5)
    expect(metadata.integer('a.uint64', { min: 0, max: 2 ** 41 })).toBe(2 ** 40)
    expect(metadata.float('a.float32', { min: 0, max: 1 })).toBe(0.5)
    expect(metadata.float('a.float64', { min: 0, max: 1 })).toBe(0.1)
    expect(metadata.boolean('a.bool')).toBe(true)
    expect(metadata.strings('a.strings')).toEqual(['x', '', '__proto__', '終'])
    expect(metadata.numbers('a.int32s')).toEqual([1, -2, 3])
    expect(metadata.string('absent', 'fallback')).toBe('fallback')
  })

  it('says where each tensor lies, in the order of torch', async () => {
    const { bytes, parts } = writeGguf(spec)
    const { tensors } = await withFile(bytes, openGguf)
    const data = (name: string) => parts.find((part) => part.name === `data of ${name}`)!.offset
    expect([...tensors.values()]).toMatchObject([
      { name: 'first', shape: [3, 64], typeId: Q4_1, offset: data('first'), nbytes: 120 },
      { name: 'second', shape: [5], typeId: F32, offset: data('second'), nbytes: 20 },
      { name: 'third', shape: [2, 2, 32], typeId: Q4_1, offset: data('third'), nbytes: 80 },
    ])
  })

  it('respects general.alignment', async () => {
    const metadata = { ...spec.metadata, 'general.alignment': { type: 'uint32', value: 4096 } } as const
    const { bytes, parts } = writeGguf({ ...spec, metadata, alignment: 4096 })
    const { tensors } = await withFile(bytes, openGguf)
    expect(tensors.get('third')!.offset).toBe(parts.at(-1)!.offset)
  })

  it('keeps strings whole where the decoding library reads in pieces', async () => {
    // It has 2,000,000 bytes when it begins with the array, since more than 500,000 are left; the last string crosses that end.
    const filler = { type: 'bytes', value: new Uint8Array(900_000) } as const
    const words = [...[350, 350, 350].map((k) => 'x'.repeat(k * 1000)), 'ab'.repeat(50_000)]
    const metadata = { filler, words: { type: 'strings', value: words } } as const
    const opened = await withFile(writeGguf({ metadata }).bytes, openGguf)
    expect(opened.metadata.strings('words')).toEqual(words)
  })

  it('takes a path that looks like an address for a path', async () => {
    const before = process.cwd()
    await withFile(new Uint8Array(), async (path) => {
      process.chdir(dirname(path))
      try {
        mkdirSync('https:/127.0.0.1:9', { recursive: true })
        writeFileSync('https:/127.0.0.1:9/model.gguf', writeGguf(spec).bytes)
        const { metadata } = await openGguf('https://127.0.0.1:9/model.gguf')
        expect(metadata.string('general.name')).toBe('Tiny ünïcode')
      } finally {
        process.chdir(before)
      }
    })
  })
})

describe('metadata getters', () => {
  it.each([
    ['string', (m: Metadata) => m.string('a.uint8'), 'a.uint8'],
    ['boolean', (m: Metadata) => m.boolean('general.name'), 'general.name'],
    ['integer out of range', (m: Metadata) => m.integer('a.uint32', { min: 0, max: 10 }), 'a.uint32'],
    ['integer with a fraction', (m: Metadata) => m.integer('a.float32', { min: 0, max: 10 }), 'a.float32'],
    ['float', (m: Metadata) => m.float('a.bool', { min: 0, max: 10 }), 'a.bool'],
    ['strings', (m: Metadata) => m.strings('a.int32s'), 'a.int32s'],
    ['numbers', (m: Metadata) => m.numbers('a.strings'), 'a.strings'],
    ['missing', (m: Metadata) => m.string('no.such.key'), 'no.such.key'],
  ])('name the key that is wrong: %s', async (_, get, key) => {
    const { metadata } = await withFile(writeGguf(spec).bytes, openGguf)
    expect(() => get(metadata)).toThrow(ModelFormatError)
    expect(() => get(metadata)).toThrow(`metadata key "${key}"`)
  })
  type Metadata = Awaited<ReturnType<typeof openGguf>>['metadata']
})

describe('a hostile file', () => {
  it('is refused wherever it is cut off', async () => {
    const { bytes } = writeGguf(spec)
    const dataEnd = bytes.length - 16 // the padding after the last tensor's 80 bytes
    for (let length = 0; length < dataEnd; length++) {
      const error = await errorOf(bytes.subarray(0, length))
      expect(error.message).toMatch(/truncated|do not fit/)
    }
    await withFile(bytes.subarray(0, dataEnd), openGguf)
  })

  const withMetadata = (key: string, bytes: Buffer, at = `type of ${key}`) => {
    const written = writeGguf(spec)
    bytes.copy(written.bytes, written.parts.find((part) => part.name === at)!.offset)
    return written.bytes
  }
  const u64 = (n: bigint) => {
    const buffer = Buffer.alloc(8)
    buffer.writeBigUInt64LE(n)
    return buffer
  }
  const huge = 0xffffffffffffffffn
  const tensors = (...list: TensorSpec[]) => writeGguf({ ...spec, tensors: list }).bytes
  const patchedInfo = (offset: number, bytes: Buffer) => {
    const written = writeGguf({ metadata: {}, tensors: [tensor('t', [4, 32])] })
    // name (8 + 1), rank (4), two dimensions (8 each), type (4), offset (8)
    bytes.copy(written.bytes, written.parts.find((part) => part.name === 'info of t')!.offset + offset)
    return written.bytes
  }

  it.each<[string, Buffer, RegExp]>([
    ['no magic', withMetadata('', Buffer.from('GGML'), 'magic'), /magic at byte 0: expected "GGUF"/],
    ['version 1', writeGguf({ ...spec, version: 1 }).bytes, /version at byte 4: expected 2 or 3, received 1/],
    ['big-endian', writeGguf({ ...spec, version: 0x03000000 }).bytes, /big-endian/],
    [
      '2^64 - 1 tensors',
      writeGguf({ ...spec, tensorCount: huge }).bytes,
      /tensor count at byte 8: .*exceeds the limit/,
    ],
    [
      'a million tensors',
      writeGguf({ ...spec, tensorCount: 1000000n }).bytes,
      /tensor count at byte 8: .*do not fit/,
    ],
    [
      '2^64 - 1 keys',
      writeGguf({ ...spec, keyCount: huge }).bytes,
      /metadata count at byte 16: .*exceeds the limit/,
    ],
    [
      '100,000 keys',
      writeGguf({ ...spec, keyCount: 100000n }).bytes,
      /metadata count at byte 16: .*do not fit/,
    ],
    ['an endless key', withMetadata('', u64(huge), 'key general.name'), /name of metadata key 0/],
    [
      'an unknown value type',
      withMetadata('a.bool', Buffer.from([99])),
      /"a.bool" at byte \d+: unknown value type 99/,
    ],
    [
      'an endless string',
      withMetadata('general.name', Buffer.concat([Buffer.from([8, 0, 0, 0]), u64(huge)])),
      /"general.name" at byte/,
    ],
    [
      'an endless array',
      withMetadata('a.int32s', Buffer.concat([Buffer.from([9, 0, 0, 0, 5, 0, 0, 0]), u64(huge)])),
      /"a.int32s" at byte/,
    ],
    [
      'an array longer than the file',
      withMetadata('a.int32s', Buffer.concat([Buffer.from([9, 0, 0, 0, 5, 0, 0, 0]), u64(999999n)])),
      /do not fit/,
    ],
    [
      'an array of arrays',
      withMetadata('a.int32s', Buffer.from([9, 0, 0, 0, 9, 0, 0, 0])),
      /arrays of arrays/,
    ],
    [
      'an array of unknown things',
      withMetadata('a.int32s', Buffer.from([9, 0, 0, 0, 77, 0, 0, 0])),
      /unknown value type 77/,
    ],
    [
      'a key that replaces a prototype',
      writeGguf({ metadata: { ['__proto__']: { type: 'strings', value: ['x'] } } }).bytes,
      /"__proto__".*reserved/,
    ],
    [
      'a key of the reader',
      writeGguf({ metadata: { tensor_count: { type: 'uint32', value: 1 } } }).bytes,
      /"tensor_count".*reserved/,
    ],
    [
      'an alignment of 0',
      writeGguf({ metadata: { 'general.alignment': { type: 'uint32', value: 0 } } }).bytes,
      /power of two/,
    ],
    [
      'an alignment of 48',
      writeGguf({ metadata: { 'general.alignment': { type: 'uint32', value: 48 } } }).bytes,
      /power of two/,
    ],
    [
      'an alignment of 2^31',
      writeGguf({ metadata: { 'general.alignment': { type: 'uint32', value: 2 ** 31 } } }).bytes,
      /power of two/,
    ],
    [
      'an alignment that is a string',
      writeGguf({ metadata: { 'general.alignment': { type: 'string', value: '32' } } }).bytes,
      /expected type uint32/,
    ],
    ['a tensor twice', tensors(tensor('t', [32]), tensor('t', [32])), /"t" at byte \d+: it is there twice/],
    ['a tensor name of 65 bytes', tensors(tensor('t'.repeat(65), [32])), /name of tensor 0/],
    ['a tensor of rank 0', tensors(tensor('t', [], F32)), /expected 1 to 4 dimensions, received 0/],
    ['a tensor of rank 5', tensors(tensor('t', [1, 1, 1, 1, 32])), /expected 1 to 4 dimensions, received 5/],
    ['an unknown tensor type', patchedInfo(29, Buffer.from([200])), /unknown tensor type 200/],
    [
      'rows that are no whole blocks',
      patchedInfo(13, u64(33n)),
      /33 elements, no multiple of the 32 of Q4_1/,
    ],
    ['an empty dimension', patchedInfo(21, u64(0n)), /takes 0 bytes/],
    ['a dimension of 2^64 - 1', patchedInfo(21, u64(huge)), /dimension 1 of tensor "t"/],
    [
      'a product of dimensions that overflows',
      patchedInfo(13, Buffer.concat([u64(1n << 52n), u64(1n << 52n)])),
      /takes \d+ bytes, the file has/,
    ],
    [
      'data outside the file',
      tensors(tensor('t', [32], Q4_1, { offset: 1 << 20 })),
      /would end at byte \d+, but the file has/,
    ],
    ['an offset of 2^64 - 1', patchedInfo(33, u64(huge)), /offset of tensor "t"/],
    ['a misaligned offset', tensors(tensor('t', [32], Q4_1, { offset: 8 })), /not aligned to 32 bytes/],
    [
      'overlapping tensors',
      tensors(tensor('a', [128]), tensor('b', [128], Q4_1, { offset: 64 })),
      /begins at 64, inside tensor "a"/,
    ],
  ])('with %s is refused', async (_, bytes, message) => {
    expect((await errorOf(bytes)).message).toMatch(message)
  })

  it('with a key twice is refused', async () => {
    const { bytes } = writeGguf({
      metadata: { ab: { type: 'bool', value: true }, ac: { type: 'bool', value: true } },
    })
    bytes.write('ab', bytes.indexOf('ac'))
    expect((await errorOf(bytes)).message).toMatch(/"ab".*twice/)
  })

  it('that is no regular file is refused without waiting for it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-gguf-'))
    try {
      await expect(openGguf(folder)).rejects.toThrow('expected a regular file')
      const pipe = join(folder, 'pipe')
      execFileSync('mkfifo', [pipe])
      await expect(openGguf(pipe)).rejects.toThrow('expected a regular file')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
