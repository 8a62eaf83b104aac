// SPDX-License-Identifier: Apache-2.0
import { inspect, types } from 'node:util'
import { type DType, dtypeOfArray, dtypes, halfFloats, isDType, type TypedArray } from './dtype'
import { Generator } from './encoding'
import { ArgumentError } from './errors'
import { native } from './native'
import { callOperator, type OpOptions } from './operator'
import { type NestedArray, Tensor } from './tensor'

/** What creation functions take besides the shape. */
export interface TensorOptions {
  /** float32 where nothing is said. */
  readonly dtype?: DType
  /** `cpu` where nothing is said; `cuda:0`, `meta`, … */
  readonly device?: string
}

function create(op: string, args: unknown[], options: TensorOptions, more: OpOptions = {}): Tensor {
  const { dtype = 'float32', device = 'cpu' } = checked(op, options)
  return callOperator(op, ...args, { ...more, dtype, device }) as Tensor
}

const OPTIONS = ['dtype', 'device', 'generator', 'step']

/** Options as they are: a misspelt name would silently mean nothing. */
function checked<T extends object>(what: string, options: T): T {
  if (typeof options !== 'object' || options === null)
    throw new ArgumentError(what, 'options', 'an object such as { dtype }', describe(options))
  for (const name of Object.keys(options))
    if (!OPTIONS.includes(name))
      throw new ArgumentError(what, name, `one of ${OPTIONS.join(', ')}`, `'${name}'`)
  return options
}

/** A tensor of the given shape whose elements are whatever the memory held. */
export function empty(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return create('aten::empty.memory_format', [shape], options)
}

/** A tensor of zeros. */
export function zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return create('aten::zeros', [shape], options)
}

/** A tensor of ones. */
export function ones(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return create('aten::ones', [shape], options)
}

/** A tensor whose elements all are `value`. */
export function full(
  shape: readonly number[],
  value: number | bigint | boolean,
  options: TensorOptions = {},
): Tensor {
  return create('aten::full', [shape, value], options)
}

/** The numbers from `start` to before `end` by `step`; int64 where no dtype is said and all are whole. */
export function arange(
  start: number,
  end: number,
  options: TensorOptions & { readonly step?: number } = {},
): Tensor {
  const { step = 1, dtype, device } = checked('arange', options)
  const whole = [start, end, step].every(Number.isInteger)
  return create('aten::arange.start_step', [start, end, step], {
    dtype: dtype ?? (whole ? 'int64' : 'float32'),
    device: device ?? 'cpu',
  })
}

/** Options of the random creation functions. */
export interface RandomOptions extends TensorOptions {
  /** Draws from this generator instead of the device's default one. */
  readonly generator?: Generator
}

/** Uniform random numbers of [0, 1). */
export function rand(shape: readonly number[], options: RandomOptions = {}): Tensor {
  return random('aten::rand', shape, options)
}

/** Random numbers of the standard normal distribution. */
export function randn(shape: readonly number[], options: RandomOptions = {}): Tensor {
  return random('aten::randn', shape, options)
}

function random(op: string, shape: readonly number[], options: RandomOptions): Tensor {
  const { generator } = checked(op, options)
  return generator ? create(`${op}.generator`, [shape], options, { generator }) : create(op, [shape], options)
}

/** A generator of its own state for `device`, started from `seed` (a whole number of 0 to 2^64 - 1). */
export function generator(seed: number | bigint, device = 'cpu'): Generator {
  if (typeof device !== 'string')
    throw new ArgumentError('generator', 'device', "a device such as 'cpu'", describe(device))
  return new Generator(native().createGenerator(device, seedOf('generator', seed)))
}

/** Restarts the default generator of every device from `seed`. */
export function manualSeed(seed: number | bigint): void {
  native().manualSeed(seedOf('manualSeed', seed))
}

function seedOf(what: string, seed: number | bigint): bigint {
  const value = typeof seed === 'bigint' ? seed : Number.isSafeInteger(seed) ? BigInt(seed) : -1n
  if (value < 0n || value >= 1n << 64n)
    throw new ArgumentError(what, 'seed', 'a whole number of 0 to 2^64 - 1', describe(seed))
  return value
}

/** The number of threads that one CPU op may use. */
export function getNumThreads(): number {
  return native().getNumThreads()
}

/** Sets the number of threads that one CPU op may use. */
export function setNumThreads(threads: number): void {
  if (!Number.isSafeInteger(threads) || threads < 1 || threads > 4096)
    throw new ArgumentError('setNumThreads', 'threads', 'a whole number of 1 to 4096', describe(threads))
  native().setNumThreads(threads)
}

/**
 * A tensor with the elements of nested arrays. All arrays of one depth have the same length. The dtype is float32 for numbers, int64 for
 * bigints and bool for booleans where nothing else is said.
 */
export function tensor(data: NestedArray, options: TensorOptions = {}): Tensor {
  const { device = 'cpu' } = checked('tensor', options)
  const shape = shapeOf(data)
  const flat: unknown[] = []
  flatten(data, shape, 0, flat)
  const first = flat[0]
  const dtype =
    options.dtype ?? (typeof first === 'bigint' ? 'int64' : typeof first === 'boolean' ? 'bool' : 'float32')
  const local = fromTypedArray(elements(flat, dtype), shape, { dtype: storedAs(dtype) })
  const converted = storedAs(dtype) === dtype ? local : local.to(dtype)
  if (converted !== local) local.dispose()
  if (device === 'cpu') return converted
  try {
    return converted.to({ device })
  } finally {
    converted.dispose()
  }
}

/** Dtypes that JavaScript cannot write itself travel as float32. */
function storedAs(dtype: DType): DType {
  return `${dtype}`.startsWith('float8') ? 'float32' : dtype
}

function elements(flat: readonly unknown[], dtype: DType): TypedArray {
  const stored = storedAs(dtype)
  if (!isDType(stored))
    throw new ArgumentError('tensor', 'dtype', "a dtype such as 'float32'", describe(dtype))
  if (stored.startsWith('complex')) throw new ArgumentError('tensor', 'dtype', 'a real dtype', dtype)
  const array = new dtypes[stored].view(flat.length)
  const big = array instanceof BigInt64Array || array instanceof BigUint64Array
  const half = stored === 'float16' || stored === 'bfloat16' ? halfFloats[stored].encode : undefined
  for (let i = 0; i < flat.length; i++) {
    const value = flat[i]
    if (typeof value !== 'number' && typeof value !== 'bigint' && typeof value !== 'boolean')
      throw new ArgumentError('tensor', 'data', 'numbers, bigints or booleans', typeof value)
    if (big) array[i] = toBigInt(value)
    else array[i] = half ? half(Number(value)) : dtype === 'bool' ? Number(Boolean(value)) : Number(value)
  }
  return array
}

function toBigInt(value: number | bigint | boolean): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value))
    throw new ArgumentError(
      'tensor',
      'data',
      'whole numbers up to 2^53, or bigints, for an integer dtype',
      String(value),
    )
  return BigInt(value)
}

function shapeOf(data: NestedArray): number[] {
  const shape: number[] = []
  for (let level: NestedArray | undefined = data; Array.isArray(level); level = level[0])
    shape.push(level.length)
  return shape
}

function flatten(data: NestedArray, shape: readonly number[], depth: number, into: unknown[]): void {
  if (depth === shape.length) {
    if (Array.isArray(data))
      throw new ArgumentError('tensor', 'data', `${shape.length} dimensions`, 'a deeper array')
    into.push(data)
    return
  }
  if (!Array.isArray(data) || data.length !== shape[depth])
    throw new ArgumentError(
      'tensor',
      'data',
      `arrays of ${shape[depth]} in dimension ${depth}`,
      Array.isArray(data) ? `one of ${data.length}` : typeof data,
    )
  for (const item of data) flatten(item, shape, depth + 1, into)
}

/**
 * A CPU tensor over a typed array's memory: no copy, writes are seen by both. The tensor keeps the memory alive; the array must not be
 * transferred while the tensor is in use.
 *
 * @param dtype another dtype of the same element size than the array's own, such as `bfloat16` over a `Uint16Array`
 */
export function fromTypedArray(
  array: TypedArray,
  shape?: readonly number[],
  options: { readonly dtype?: DType } = {},
): Tensor {
  checked('fromTypedArray', options)
  const own = types.isTypedArray(array) ? dtypeOfArray(array) : undefined
  if (own === undefined) throw new ArgumentError('fromTypedArray', 'array', 'a typed array', describe(array))
  const { dtype = own } = options
  if (!isDType(dtype))
    throw new ArgumentError('fromTypedArray', 'dtype', "a dtype such as 'float32'", describe(dtype))
  if (dtypes[dtype].view.BYTES_PER_ELEMENT !== array.BYTES_PER_ELEMENT)
    throw new ArgumentError(
      'fromTypedArray',
      'dtype',
      `a dtype of ${array.BYTES_PER_ELEMENT} bytes an element`,
      describe(dtype),
    )
  return borrow(
    'fromTypedArray',
    array,
    0,
    shape ?? [isComplex(dtype) ? array.length / 2 : array.length],
    dtype,
  )
}

/**
 * A CPU tensor over bytes of an ArrayBuffer or of a view of one: no copy. `byteOffset` counts from the view's start. Transferring the
 * buffer takes the memory away: the next use of the tensor is an `ArgumentError`.
 *
 * @throws {ArgumentError} when the shape needs more bytes than there are; for shared, resizable or detached memory, and for elements
 *   that don't begin at a multiple of their size
 */
export function fromBuffer(
  memory: ArrayBuffer | ArrayBufferView,
  byteOffset: number,
  shape: readonly number[],
  dtype: DType,
): Tensor {
  return borrow('fromBuffer', memory, byteOffset, shape, dtype)
}

function borrow(
  what: string,
  memory: ArrayBuffer | ArrayBufferView,
  byteOffset: number,
  shape: readonly number[],
  dtype: DType,
): Tensor {
  if (!isDType(dtype)) throw new ArgumentError(what, 'dtype', "a dtype such as 'float32'", describe(dtype))
  const view = ArrayBuffer.isView(memory) ? memory : undefined
  const buffer = view ? view.buffer : memory
  if (!types.isArrayBuffer(buffer))
    throw new ArgumentError(what, 'memory', 'an ArrayBuffer or a view of one', describe(buffer))
  if ('resizable' in buffer && buffer.resizable)
    throw new ArgumentError(what, 'memory', 'an ArrayBuffer of a fixed length', 'a resizable one')
  if (!Array.isArray(shape)) throw new ArgumentError(what, 'shape', 'an array of sizes', describe(shape))
  const sizes: unknown[] = [...shape]
  if (!sizes.every((size): size is number => Number.isSafeInteger(size) && Number(size) >= 0))
    throw new ArgumentError(
      what,
      'shape',
      'whole numbers of 0 and more',
      `[${sizes.map(describe).join(', ')}]`,
    )
  if (!Number.isSafeInteger(byteOffset) || byteOffset < 0)
    throw new ArgumentError(what, 'byteOffset', 'a whole number of 0 and more', describe(byteOffset))
  const unit = dtypes[dtype].view.BYTES_PER_ELEMENT
  const bytes = sizes.reduce((product, size) => product * size, isComplex(dtype) ? 2 * unit : unit)
  const available = (view ?? buffer).byteLength - byteOffset
  if (!(bytes <= available))
    throw new ArgumentError(
      what,
      'shape',
      `at most ${Math.max(0, available)} bytes`,
      `[${sizes.join(', ')}] of ${bytes} bytes`,
    )
  const offset = (view ? view.byteOffset : 0) + byteOffset
  if (offset % unit !== 0)
    throw new ArgumentError(
      what,
      'byteOffset',
      `elements at a multiple of ${unit} bytes of the buffer`,
      `byte ${offset}`,
    )
  const raw = Tensor.adopt(native().lend(buffer, offset, bytes))
  try {
    return raw.viewAs(dtype, sizes)
  } finally {
    raw.dispose()
  }
}

function isComplex(dtype: DType): boolean {
  return dtype === 'complex64' || dtype === 'complex128'
}

/**
 * The bytes of a file as a uint8 tensor, mapped and not read: pages come in as they are used. Writing to the tensor changes this
 * process's copy of a page, never the file. Views keep the mapping alive. The file must not be shortened while it is mapped.
 *
 * @throws {VllmOpsError} `E_FILE` when the file cannot be opened or mapped
 */
export function mapFile(path: string): Tensor {
  if (typeof path !== 'string' || path.includes('\0'))
    throw new ArgumentError('mapFile', 'path', 'the path of a file', describe(path))
  return Tensor.adopt(native().mapFile(path))
}

function describe(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Object.prototype.toString.call(value).slice(8, -1)
  return inspect(value)
}
