// SPDX-License-Identifier: Apache-2.0
//
// Files of the safetensors format (github.com/huggingface/safetensors): 8 bytes with the length of a header, the header as JSON (name →
// dtype, shape and where the bytes lie), and the bytes.
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { inspect } from 'node:util'
import { mapFile } from './borrow'
import type { DType } from './dtype'
import { ArgumentError, VllmOpsError } from './errors'
import { checked } from './options'
import { scope } from './scope'
import { Tensor } from './tensor'

/** What a file holds. */
export interface SafeTensors {
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, Tensor>
  /** The texts under `__metadata__`; none where the file has none. */
  readonly metadata: Readonly<Record<string, string>>
}

/** The names that the format has for dtypes. It may know more than JavaScript can show. */
const DTYPES: Readonly<Record<string, DType>> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  F8_E4M3: 'float8_e4m3fn',
  F8_E5M2: 'float8_e5m2',
  F8_E4M3FNUZ: 'float8_e4m3fnuz',
  F8_E5M2FNUZ: 'float8_e5m2fnuz',
  I64: 'int64',
  I32: 'int32',
  I16: 'int16',
  I8: 'int8',
  U64: 'uint64',
  U32: 'uint32',
  U16: 'uint16',
  U8: 'uint8',
  BOOL: 'bool',
  C64: 'complex64',
}

const LENGTH_BYTES = 8
/** The reference implementation's limit, which keeps a hostile length from being believed. */
const MOST_HEADER_BYTES = 100_000_000
const METADATA = '__metadata__'

interface Entry {
  readonly name: string
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly begin: number
  readonly end: number
}

/**
 * The tensors of a safetensors file, mapped and not read: pages come in as they are used, and writing changes this process's copy only.
 * Each tensor keeps the mapping. One that is not aligned in the file, or goes to another device, is copied. The file must not be shortened meanwhile.
 *
 * @throws {VllmOpsError} `E_FILE` when it cannot be opened, `E_MODEL_FORMAT` when it is not what the format says: a header or a tensor
 *   beyond the end, sizes that don't fit, overlaps and gaps, types that are unknown
 */
export function loadSafetensors(path: string, options: { readonly device?: string } = {}): SafeTensors {
  const { device = 'cpu' } = checked('loadSafetensors', options, ['device'])
  return scope(() => {
    const file = mapFile(path)
    const fail = (problem: string): never => {
      throw new VllmOpsError('E_MODEL_FORMAT', `${path} is no safetensors file: ${problem}`, {
        fix: 'Fetch the file again',
      })
    }
    const size = file.numel
    if (size < LENGTH_BYTES) fail(`it has ${size} bytes`)
    const length = Number(new DataView(bytesOf(file, 0, LENGTH_BYTES).buffer).getBigUint64(0, true))
    const start = LENGTH_BYTES + length
    if (length > MOST_HEADER_BYTES || start > size)
      fail(`its header of ${length} bytes does not fit into ${size}`)
    const { entries, metadata } = parseHeader(bytesOf(file, LENGTH_BYTES, length), size - start, fail)
    const tensors = new Map<string, Tensor>()
    for (const { name, dtype, shape, begin, end } of entries) {
      const bytes = file.narrow(0, start + begin, end - begin)
      const unit = Math.max(1, elementBytes(dtype))
      const aligned = (start + begin) % unit === 0 ? bytes : bytes.clone()
      const local = aligned.viewAs(dtype, shape)
      tensors.set(name, device === 'cpu' ? local : local.to({ device }))
    }
    return { tensors, metadata }
  })
}

/** A copy: the mapped page may be written to by others. */
function bytesOf(file: Tensor, start: number, length: number): Uint8Array {
  return scope(() => (file.narrow(0, start, length).data() as Uint8Array).slice())
}

type Fail = (problem: string) => never

function parseHeader(
  bytes: Uint8Array,
  dataBytes: number,
  fail: Fail,
): { entries: Entry[]; metadata: Record<string, string> } {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes))
  } catch (error) {
    fail(`its header is no JSON (${error instanceof Error ? error.message : error})`)
  }
  if (bytes[0] !== 0x7b || !isRecord(header)) return fail('its header is no JSON object')
  const metadata: Record<string, string> = Object.create(null)
  const entries: Entry[] = []
  for (const [name, value] of Object.entries(header)) {
    if (name === METADATA) Object.assign(metadata, checkedMetadata(value, fail))
    else entries.push(entryOf(name, value, fail))
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end)
  let position = 0
  for (const { name, begin, end } of entries) {
    if (begin !== position)
      fail(
        `${inspect(name)} begins at byte ${begin}, where ${position} was expected: tensors overlap or leave a gap`,
      )
    position = end
  }
  if (position !== dataBytes) fail(`its tensors have ${position} bytes, and ${dataBytes} are there`)
  return { entries, metadata }
}

function checkedMetadata(value: unknown, fail: Fail): Record<string, string> {
  if (!isRecord(value) || !Object.values(value).every((text) => typeof text === 'string'))
    return fail(`${METADATA} is no object of texts`)
  return value as Record<string, string>
}

function entryOf(name: string, value: unknown, fail: Fail): Entry {
  if (!isRecord(value)) return fail(`${inspect(name)} is no object`)
  const { dtype: type, shape, data_offsets: offsets } = value
  const dtype = typeof type === 'string' && Object.hasOwn(DTYPES, type) ? DTYPES[type] : undefined
  if (dtype === undefined)
    return fail(
      `${inspect(name)} has dtype ${inspect(type)}, which is none of ${Object.keys(DTYPES).join(', ')}`,
    )
  if (!isSizes(shape)) return fail(`${inspect(name)} has shape ${inspect(shape)}`)
  if (!isSizes(offsets) || offsets.length !== 2)
    return fail(`${inspect(name)} has data_offsets ${inspect(offsets)}`)
  const [begin = 0, end = 0] = offsets
  // As bigints: the product of hostile sizes is beyond what a number holds.
  const needed = shape.reduce((product, size) => product * BigInt(size), BigInt(elementBytes(dtype)))
  if (BigInt(end) - BigInt(begin) !== needed)
    return fail(
      `${inspect(name)}, ${dtype}[${shape.join(', ')}], needs ${needed} bytes and has ${end - begin}`,
    )
  return { name, dtype, shape, begin, end }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0)
}

function elementBytes(dtype: DType): number {
  if (dtype === 'bool' || dtype.startsWith('float8')) return 1
  return Number(/\d+$/.exec(dtype)?.[0]) / 8
}

/**
 * Writes tensors to a safetensors file, from any device. The file appears under its name when it is complete.
 *
 * @throws {ArgumentError} for a dtype that the format does not have
 */
export function saveSafetensors(
  path: string,
  tensors: ReadonlyMap<string, Tensor> | Readonly<Record<string, Tensor>>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  const parts = (tensors instanceof Map ? [...tensors] : Object.entries(tensors)).map(([name, tensor]) =>
    partOf(String(name), tensor),
  )
  // The widest first, as the reference implementation does: then every tensor is aligned.
  parts.sort((a, b) => b.unit - a.unit || (a.name < b.name ? -1 : 1))
  const entries: [string, unknown][] = []
  const texts = Object.entries(metadata)
  if (texts.length > 0)
    entries.push([METADATA, Object.fromEntries(texts.map(([key, text]) => [key, String(text)]))])
  let position = 0
  for (const { name, type, tensor } of parts) {
    const end = position + tensor.nbytes
    entries.push([name, { dtype: type, shape: tensor.shape, data_offsets: [position, end] }])
    position = end
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const header = Buffer.alloc(LENGTH_BYTES + Math.ceil(json.length / 8) * 8, ' ')
  header.writeBigUInt64LE(BigInt(header.length - LENGTH_BYTES))
  json.copy(header, LENGTH_BYTES)
  const temporary = `${path}.${process.pid}.tmp`
  let written = false
  const file = openSync(temporary, 'w')
  try {
    writeAll(file, header)
    for (const { tensor } of parts) scope(() => writeAll(file, elementsOf(tensor)))
    written = true
  } finally {
    closeSync(file)
    if (!written) rmSync(temporary, { force: true })
  }
  renameSync(temporary, path)
}

const NAMES = new Map(Object.entries(DTYPES).map(([name, dtype]) => [dtype, name]))

function partOf(name: string, tensor: Tensor): { name: string; type: string; unit: number; tensor: Tensor } {
  const what = `tensors[${inspect(name)}]`
  if (!(tensor instanceof Tensor))
    throw new ArgumentError('saveSafetensors', what, 'a tensor', inspect(tensor))
  if (name === METADATA)
    throw new ArgumentError('saveSafetensors', 'tensors', `another name than ${METADATA}`, name)
  const { dtype } = tensor
  const type = NAMES.get(dtype)
  if (type === undefined)
    throw new ArgumentError('saveSafetensors', what, `one of ${[...NAMES.keys()].join(', ')}`, dtype)
  return { name, type, unit: elementBytes(dtype), tensor }
}

function elementsOf(tensor: Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.to({ device: 'cpu' }).contiguous().data()
  return new Uint8Array(buffer, byteOffset, byteLength)
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
}
