// SPDX-License-Identifier: Apache-2.0
import { ModelFormatError } from '../errors'
import type { FileReader } from './file-reader'
import { GGML_TYPES, type GgmlType } from './ggml'

/**
 * The strict pass over a GGUF header. A model file is untrusted, and `@huggingface/gguf` reads it leniently: past the end
 * of the file it reads zeros, it cuts off a string at the end of its buffer, it assigns hostile keys to a plain object,
 * and it does not relate tensors to the file at all. So every length, count and offset is checked here first, in constant
 * memory; that library then decodes the values of a header that is known to be whole.
 *
 * Definition of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
export interface GgufStructure {
  readonly version: 2 | 3
  readonly tensors: ReadonlyMap<string, GgufTensor>
  /** Where the last element of each array of strings lies: the one that `@huggingface/gguf` may cut off. */
  readonly lastStrings: ReadonlyMap<string, ByteRange>
}

/** One tensor of the file. */
export interface GgufTensor {
  readonly name: string
  /** Torch's order: the innermost dimension last (GGUF stores it first). */
  readonly shape: readonly number[]
  /** Number of the type in `enum ggml_type`, as `ggml_dequantize` takes it. */
  readonly typeId: number
  readonly type: GgmlType
  /** First byte, from the start of the file. */
  readonly offset: number
  readonly nbytes: number
}

/** Bytes `start` to `end` (exclusive) of the file. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

const MAGIC = 0x46554747 // 'GGUF', little-endian
const DEFAULT_ALIGNMENT = 32
const ARRAY = 9
const STRING = 8
const UINT32 = 4
/** Bytes of a scalar metadata value by its type number; strings (8) and arrays (9) have a length of their own. */
const SCALAR_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
])

/**
 * The format itself sets no bounds; these are within those of `@huggingface/gguf`, and far above any known model. A string
 * of more than 500,000 bytes is one that it may silently cut off.
 */
const LIMITS = {
  headerBytes: 48_000_000,
  metadataKeys: 100_000,
  arrayLength: 1_000_000,
  stringBytes: 400_000,
  keyBytes: 65_535,
  tensors: 1_000_000,
  tensorNameBytes: 64,
  dimensions: 4,
  alignment: 65_536,
}

/** The names under which `@huggingface/gguf` stores what is not metadata, and the one that would replace a prototype. */
const RESERVED_KEYS = ['version', 'tensor_count', 'kv_count', '__proto__']

/** Checks the whole header of a GGUF file and where its tensors lie. Throws {@link ModelFormatError}. */
export function readStructure(file: FileReader): GgufStructure {
  const reader = new HeaderReader(file)
  const magic = reader.uint32('magic')
  if (magic !== MAGIC) {
    throw reader.error('magic', `expected "GGUF", received 0x${magic.toString(16).padStart(8, '0')}`, 0)
  }
  const version = reader.uint32('version')
  if (version !== 2 && version !== 3) {
    const swapped = version === 0x02000000 || version === 0x03000000
    throw reader.error(
      'version',
      swapped
        ? 'this is a big-endian file; convert it to little-endian'
        : `expected 2 or 3, received ${version}`,
      4,
    )
  }
  // A tensor takes at least 33 bytes here (name length and 1 character, rank, 1 dimension, type, offset), a key 14.
  const tensorCount = reader.count('tensor count', LIMITS.tensors, 33)
  const keyCount = reader.count('metadata count', LIMITS.metadataKeys, 14)
  const { alignment, lastStrings } = readKeys(reader, keyCount)
  const infos = readTensorInfos(reader, tensorCount)
  const dataStart = Math.ceil(reader.offset / alignment) * alignment
  return { version, lastStrings, tensors: placeTensors(reader, infos, dataStart, alignment) }
}

function readKeys(reader: HeaderReader, count: number) {
  const seen = new Set(RESERVED_KEYS)
  const lastStrings = new Map<string, ByteRange>()
  let alignment = DEFAULT_ALIGNMENT
  for (let i = 0; i < count; i++) {
    const keyOffset = reader.offset
    const key = reader.string(`name of metadata key ${i}`, LIMITS.keyBytes)
    const what = `metadata key ${quote(key)}`
    if (key === '') throw reader.error(`metadata key ${i}`, 'its name is empty', keyOffset)
    if (seen.has(key)) throw reader.error(what, 'it is there twice or its name is reserved', keyOffset)
    seen.add(key)
    const typeOffset = reader.offset
    const type = reader.uint32(`type of ${what}`)
    if (key === 'general.alignment') {
      if (type !== UINT32) throw reader.error(what, `expected type uint32, received type ${type}`, typeOffset)
      alignment = reader.uint32(what)
      const powerOfTwo = (alignment & (alignment - 1)) === 0
      if (alignment < 8 || alignment > LIMITS.alignment || !powerOfTwo) {
        throw reader.error(
          what,
          `expected a power of two from 8 to 65536, received ${alignment}`,
          typeOffset + 4,
        )
      }
    } else if (type === ARRAY) {
      const last = skipArray(reader, what)
      if (last) lastStrings.set(key, last)
    } else if (type === STRING) {
      reader.skipString(what, LIMITS.stringBytes)
    } else {
      reader.skip(what, scalarBytes(reader, type, what))
    }
  }
  return { alignment, lastStrings }
}

function skipArray(reader: HeaderReader, what: string): ByteRange | undefined {
  const type = reader.uint32(`element type of ${what}`)
  if (type === ARRAY) throw reader.error(what, 'arrays of arrays are not supported', reader.offset - 4)
  if (type !== STRING) {
    const size = scalarBytes(reader, type, what)
    reader.skip(what, reader.count(`length of ${what}`, LIMITS.arrayLength, size) * size)
    return undefined
  }
  const length = reader.count(`length of ${what}`, LIMITS.arrayLength, 8)
  let last: ByteRange | undefined
  for (let i = 0; i < length; i++) last = reader.skipString(`element ${i} of ${what}`, LIMITS.stringBytes)
  return last
}

function scalarBytes(reader: HeaderReader, type: number, what: string): number {
  const size = SCALAR_BYTES.get(type)
  if (size === undefined) throw reader.error(what, `unknown value type ${type}`, reader.offset - 4)
  return size
}

interface TensorInfo extends Omit<GgufTensor, 'offset'> {
  readonly infoOffset: number
  /** From the start of the data section. */
  readonly dataOffset: number
}

function readTensorInfos(reader: HeaderReader, count: number): TensorInfo[] {
  const names = new Set<string>()
  const infos: TensorInfo[] = []
  for (let i = 0; i < count; i++) {
    const infoOffset = reader.offset
    const name = reader.string(`name of tensor ${i}`, LIMITS.tensorNameBytes)
    const what = `tensor ${quote(name)}`
    if (names.has(name)) throw reader.error(what, 'it is there twice', infoOffset)
    names.add(name)
    const rank = reader.uint32(`rank of ${what}`)
    if (rank < 1 || rank > LIMITS.dimensions) {
      throw reader.error(
        what,
        `expected 1 to ${LIMITS.dimensions} dimensions, received ${rank}`,
        reader.offset - 4,
      )
    }
    const shape: number[] = []
    for (let d = 0; d < rank; d++)
      shape.unshift(reader.count(`dimension ${d} of ${what}`, Number.MAX_SAFE_INTEGER))
    const typeId = reader.uint32(`type of ${what}`)
    const type = GGML_TYPES.get(typeId)
    if (!type) throw reader.error(what, `unknown tensor type ${typeId}`, reader.offset - 4)
    infos.push({
      name,
      shape,
      typeId,
      type,
      nbytes: tensorBytes(reader, what, shape, type),
      infoOffset,
      dataOffset: reader.count(`offset of ${what}`, Number.MAX_SAFE_INTEGER),
    })
  }
  return infos
}

/** Size in bytes, computed without overflow: no product here exceeds the file's size by more than one factor. */
function tensorBytes(reader: HeaderReader, what: string, shape: readonly number[], type: GgmlType): number {
  const columns = shape.at(-1)!
  if (columns % type.blockSize !== 0) {
    throw reader.error(
      what,
      `its rows have ${columns} elements, no multiple of the ${type.blockSize} of ${type.name}`,
      reader.offset,
    )
  }
  const total =
    shape.slice(0, -1).reduce((product, n) => product * BigInt(n), BigInt(columns / type.blockSize)) *
    BigInt(type.typeSize)
  if (total === 0n || total > BigInt(reader.size)) {
    throw reader.error(
      what,
      `shape [${shape.join(', ')}] of ${type.name} takes ${total} bytes, the file has ${reader.size}`,
      reader.offset,
    )
  }
  return Number(total)
}

function placeTensors(
  reader: HeaderReader,
  infos: readonly TensorInfo[],
  dataStart: number,
  alignment: number,
) {
  const tensors = new Map<string, GgufTensor>()
  let end = 0
  let previous = ''
  for (const { infoOffset, dataOffset, ...info } of [...infos].sort((a, b) => a.dataOffset - b.dataOffset)) {
    const what = `tensor ${quote(info.name)}`
    if (dataOffset % alignment !== 0) {
      throw reader.error(
        what,
        `its data begins at ${dataOffset}, which is not aligned to ${alignment} bytes`,
        infoOffset,
      )
    }
    if (dataOffset < end) {
      throw reader.error(
        what,
        `its data begins at ${dataOffset}, inside tensor ${quote(previous)}, which ends at ${end}`,
        infoOffset,
      )
    }
    end = dataOffset + info.nbytes
    previous = info.name
    if (dataStart + end > reader.size) {
      throw reader.error(
        what,
        `its data would end at byte ${dataStart + end}, but the file has ${reader.size} bytes: it is truncated or corrupt`,
        infoOffset,
      )
    }
    tensors.set(info.name, { ...info, offset: dataStart + dataOffset })
  }
  return tensors
}

/** A name for a message: printable and not endless. */
function quote(name: string): string {
  return JSON.stringify(name.length > 64 ? `${name.slice(0, 64)}…` : name)
}

/** Reads the header from front to back and never outside the file. */
class HeaderReader {
  offset = 0
  readonly #limit: number

  constructor(readonly file: FileReader) {
    this.#limit = Math.min(file.size, LIMITS.headerBytes)
  }

  get size(): number {
    return this.file.size
  }

  error(what: string, message: string, offset: number): ModelFormatError {
    return new ModelFormatError({ file: this.file.path, where: `${what} at byte ${offset}`, message })
  }

  uint32(what: string): number {
    return this.#take(what, 4).readUInt32LE(0)
  }

  /** A 64-bit unsigned number that is at most `limit`, and so small that as many things of `bytesEach` fit into the rest. */
  count(what: string, limit: number, bytesEach = 0): number {
    const offset = this.offset
    const value = this.#take(what, 8).readBigUInt64LE(0)
    if (value > BigInt(limit)) throw this.error(what, `${value} exceeds the limit of ${limit}`, offset)
    const bytes = Number(value) * bytesEach
    if (bytes > this.size - this.offset) {
      throw this.error(
        what,
        `${value} of them do not fit into the ${this.size - this.offset} bytes that follow`,
        offset,
      )
    }
    return Number(value)
  }

  string(what: string, limit: number): string {
    return this.#take(what, this.count(`length of ${what}`, limit, 1)).toString('utf8')
  }

  skipString(what: string, limit: number): ByteRange {
    const length = this.count(`length of ${what}`, limit, 1)
    const start = this.offset
    this.skip(what, length)
    return { start, end: this.offset }
  }

  skip(what: string, bytes: number): void {
    if (bytes > this.#limit - this.offset) throw this.#tooShort(what, bytes)
    this.offset += bytes
  }

  #take(what: string, bytes: number): Buffer {
    const start = this.offset
    this.skip(what, bytes)
    return this.file.read(start, bytes)
  }

  #tooShort(what: string, bytes: number): ModelFormatError {
    const message =
      this.#limit < this.size
        ? `the header exceeds ${this.#limit} bytes`
        : `${bytes} bytes expected, but the file ends after ${this.size}: it is truncated or corrupt`
    return this.error(what, message, this.offset)
  }
}
