// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { GGML_TYPES } from '../src/gguf/ggml'

/** A metadata value with its GGUF type spelled out. */
export type Value =
  | { readonly type: 'uint32' | 'int32' | 'float32' | 'float64' | 'uint64' | 'uint8'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'strings'; readonly value: readonly string[] }
  | { readonly type: 'int32s'; readonly value: readonly number[] }
  | { readonly type: 'bytes'; readonly value: Uint8Array }

export interface TensorSpec {
  readonly name: string
  /** Torch's order. */
  readonly shape: readonly number[]
  readonly typeId: number
  readonly data: Uint8Array
  /** Instead of the offset that follows from the tensors before it. */
  readonly offset?: number
}

export interface GgufSpec {
  readonly metadata: Readonly<Record<string, Value>>
  readonly tensors?: readonly TensorSpec[]
  readonly alignment?: number
  /** Instead of the true numbers, to lie. */
  readonly tensorCount?: bigint
  readonly keyCount?: bigint
  readonly version?: number
}

/** A GGUF file as bytes, with the offset at which each part begins. */
export function writeGguf(spec: GgufSpec): { bytes: Buffer; parts: { name: string; offset: number }[] } {
  const chunks: Buffer[] = []
  const parts: { name: string; offset: number }[] = []
  let length = 0
  const put = (...buffers: Buffer[]) => {
    for (const buffer of buffers) {
      chunks.push(buffer)
      length += buffer.length
    }
  }
  const begin = (name: string) => parts.push({ name, offset: length })
  const tensors = spec.tensors ?? []
  const keys = Object.entries(spec.metadata)
  const alignment = spec.alignment ?? 32
  begin('magic')
  put(Buffer.from('GGUF'))
  begin('version')
  put(u32(spec.version ?? 3))
  begin('tensor count')
  put(u64(spec.tensorCount ?? BigInt(tensors.length)))
  begin('key count')
  put(u64(spec.keyCount ?? BigInt(keys.length)))
  for (const [key, value] of keys) {
    begin(`key ${key}`)
    put(text(key))
    begin(`type of ${key}`)
    put(...encodeValue(value))
  }
  let offset = 0
  for (const tensor of tensors) {
    begin(`info of ${tensor.name}`)
    put(text(tensor.name), u32(tensor.shape.length))
    for (const n of [...tensor.shape].reverse()) put(u64(BigInt(n)))
    put(u32(tensor.typeId), u64(BigInt(tensor.offset ?? offset)))
    offset += pad(tensor.data.length, alignment)
  }
  put(Buffer.alloc(pad(length, alignment) - length))
  for (const tensor of tensors) {
    begin(`data of ${tensor.name}`)
    put(Buffer.from(tensor.data), Buffer.alloc(pad(tensor.data.length, alignment) - tensor.data.length))
  }
  return { bytes: Buffer.concat(chunks), parts }
}

/** Bytes that a tensor of this type and shape takes. */
export function ggmlBytes(typeId: number, shape: readonly number[]): number {
  const { blockSize, typeSize } = GGML_TYPES.get(typeId)!
  return (shape.reduce((a, b) => a * b, 1) / blockSize) * typeSize
}

/** Calls `fn` with the path of a file of these bytes, and removes it afterwards. */
export async function withFile<T>(bytes: Uint8Array, fn: (path: string) => T | Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-gguf-'))
  try {
    const path = join(folder, 'model.gguf')
    writeFileSync(path, bytes)
    return await fn(path)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function encodeValue({ type, value }: Value): Buffer[] {
  switch (type) {
    case 'uint8':
      return [u32(0), Buffer.from([value])]
    case 'uint32':
      return [u32(4), u32(value)]
    case 'int32':
      return [u32(5), i32(value)]
    case 'float32':
      return [u32(6), f32(value)]
    case 'bool':
      return [u32(7), Buffer.from([Number(value)])]
    case 'string':
      return [u32(8), text(value)]
    case 'uint64':
      return [u32(10), u64(BigInt(value))]
    case 'float64':
      return [u32(12), f64(value)]
    case 'strings':
      return [u32(9), u32(8), u64(BigInt(value.length)), ...value.map(text)]
    case 'int32s':
      return [u32(9), u32(5), u64(BigInt(value.length)), ...value.map(i32)]
    case 'bytes':
      return [u32(9), u32(0), u64(BigInt(value.length)), Buffer.from(value)]
  }
}

const pad = (n: number, alignment: number) => Math.ceil(n / alignment) * alignment
const u32 = (n: number) => write(4, (b) => b.writeUInt32LE(n))
const i32 = (n: number) => write(4, (b) => b.writeInt32LE(n))
const f32 = (n: number) => write(4, (b) => b.writeFloatLE(n))
const f64 = (n: number) => write(8, (b) => b.writeDoubleLE(n))
const u64 = (n: bigint) => write(8, (b) => b.writeBigUInt64LE(n))

function text(value: string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([u64(BigInt(bytes.length)), bytes])
}

function write(size: number, fill: (buffer: Buffer) => void): Buffer {
  const buffer = Buffer.alloc(size)
  fill(buffer)
  return buffer
}
