// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { type Description, describeHandle, textOfDescription } from './description'
import { accelerator, requireAccelerator } from './device'
import { type DType, dtypes, halfFloats, type TypedArray } from './dtype'
import { Complex, values } from './encoding'
import { ArgumentError } from './errors'
import { type Index, indexed, putIndexed } from './indexing'
import { isComplex, jsonOf, type TensorJSON } from './json'
import { native } from './native'
import { callOperator } from './operator'
import { freesLate, watchMemory } from './pressure'
import { formatElements } from './print'
import { adoptIntoScope, removeFromScope } from './scope'
import { type SharedTensor, shareHandle } from './share'
import { noteDisposed, noteMade } from './tracking'

/** One element of a tensor. */
export type Element = number | bigint | boolean | Complex

/** Nested arrays of a tensor's elements, as deep as the tensor has dimensions. */
export type NestedArray = Element | NestedArray[]

// Small tensors of which the collector does not know yet, in a ring. With what the addon calls small (csrc/environment.cpp) they hold
// 256 KB at most.
const MOST_YOUNG = 64
const young: (Tensor | undefined)[] = new Array(MOST_YOUNG).fill(undefined)
let nextYoung = 0

/** Where and what `to` makes a tensor. What isn't said stays. */
export interface ToOptions {
  readonly dtype?: DType
  /** `cpu`, `cuda:0`, `meta`, … */
  readonly device?: string
  /** Return before a copy between devices is done; from and to the CPU that takes pinned memory. Read it after `synchronize`. */
  readonly nonBlocking?: boolean
  /** A copy in any case. */
  readonly copy?: boolean
}

let warned = false

function warnOfCopies(): void {
  if (warned) return
  warned = true
  process.emitWarning(
    'this runtime forbids ArrayBuffers over native memory: data() returns copies, and what is written to them does not reach the tensor',
    { code: 'VLLM_OPS_COPIED_DATA' },
  )
}

/**
 * A tensor of libtorch. It is made by ops and by the creation functions (`empty`, `tensor`, `fromTypedArray`, …), never by `new`.
 * Its memory is freed by `dispose()` (or `using`, or `scope`); what is forgotten is freed when it is collected.
 * Every method runs through the dispatcher, and like every op throws `ArgumentError` on a wrong or disposed argument.
 */
export class Tensor {
  #handle: number

  private constructor(handle: number) {
    this.#handle = handle
  }

  /** @internal The object of a handle that the addon just made. */
  static adopt(handle: number): Tensor {
    const tensor = new Tensor(handle)
    values[0] = handle
    native().track(tensor)
    noteMade(handle)
    if (freesLate) watchMemory()
    adoptIntoScope(tensor)
    return tensor
  }

  /**
   * @internal The object of a handle whose memory is small. Telling the collector of an object costs as much as a small op, and most
   * small tensors are disposed at once: so the last few are held here, and the collector hears of those that outlive that.
   */
  static adoptSmall(handle: number): Tensor {
    if (freesLate) return Tensor.adopt(handle)
    const tensor = new Tensor(handle)
    noteMade(handle)
    const oldest = young[nextYoung]
    if (oldest !== undefined && oldest.#handle !== 0) {
      values[0] = oldest.#handle
      native().track(oldest)
    }
    young[nextYoung] = tensor
    nextYoung = (nextYoung + 1) % MOST_YOUNG
    adoptIntoScope(tensor)
    return tensor
  }

  /** @internal The handle of a tensor (0 when disposed), or `undefined` for any other object. */
  static handleOf(value: object): number | undefined {
    return #handle in value ? value.#handle : undefined
  }

  /**
   * @internal The handle of a tensor (0 when disposed), or -1 for any other object. The fast way where a tensor is expected: the engine
   * inlines a read of a private field, but not `#handle in value`. Runs no caller's code, not even a proxy's.
   */
  static handleIn(value: object): number {
    try {
      return (value as Tensor).#handle
    } catch {
      return -1
    }
  }

  #describe(what: string): Description {
    return describeHandle(this.#handle, what)
  }

  /** The type of the elements, by PyTorch's name. */
  get dtype(): DType {
    return this.#describe('dtype').dtype
  }

  /** Where the memory is: `cpu`, `cuda:0`, `meta`, …. */
  get device(): string {
    return this.#describe('device').device
  }

  /** The size of each dimension. */
  get shape(): readonly number[] {
    return this.#describe('shape').shape
  }

  /** For each dimension, how many elements apart neighbours lie. */
  get strides(): readonly number[] {
    return this.#describe('strides').strides
  }

  /** The number of dimensions. */
  get ndim(): number {
    return this.#describe('ndim').shape.length
  }

  /** The number of elements. */
  get numel(): number {
    return this.#describe('numel').numel
  }

  /** The size of an element, in bytes. */
  get itemsize(): number {
    return this.#describe('itemsize').itemsize
  }

  /** The size of all elements, in bytes. */
  get nbytes(): number {
    const { numel, itemsize } = this.#describe('nbytes')
    return numel * itemsize
  }

  /** Where the first element lies in the storage, in elements. */
  get storageOffset(): number {
    return this.#describe('storageOffset').storageOffset
  }

  /** Whether the elements lie one behind the other in row-major order. */
  get isContiguous(): boolean {
    return this.#describe('isContiguous').isContiguous
  }

  /** Whether `dispose` was called. */
  get disposed(): boolean {
    return this.#handle === 0
  }

  /** Frees the tensor now. Its memory goes when no view and no typed array of it is left. Twice is once. */
  dispose(): void {
    if (this.#handle === 0) return
    values[0] = this.#handle
    noteDisposed(this.#handle)
    this.#handle = 0
    native().release()
    removeFromScope(this)
  }

  /** Frees the tensor at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /**
   * The elements as a typed array over the tensor's own memory: no copy, writes are seen by both. The array keeps the memory
   * alive after `dispose`. Float16, bfloat16 and 8-bit floats are shown as their bits, bool as bytes, complex as pairs.
   *
   * A runtime that allows no ArrayBuffer over foreign memory (some builds of Electron) gets a copy, and a warning once: what is written
   * there does not reach the tensor; `copy_(fromTypedArray(…))` does.
   *
   * @throws {ArgumentError} for a tensor that is not on the CPU or not contiguous
   */
  data(): TypedArray {
    const { dtype, device, numel, isContiguous } = this.#describe('data')
    if (device !== 'cpu')
      throw new ArgumentError('Tensor.data', 'self', "a tensor on cpu (use to({ device: 'cpu' }))", device)
    if (!isContiguous)
      throw new ArgumentError(
        'Tensor.data',
        'self',
        'a contiguous tensor (use contiguous())',
        'a strided view',
      )
    if (!Object.hasOwn(dtypes, dtype))
      throw new ArgumentError('Tensor.data', 'self', 'a dtype with a typed array', dtype)
    const memory = native().bytes(this.#handle)
    if (memory === undefined)
      throw new ArgumentError(
        'Tensor.data',
        'self',
        'a tensor with its memory',
        'one whose ArrayBuffer was transferred away',
      )
    if (memory.copied) warnOfCopies()
    const View = dtypes[dtype].view
    return new View(memory.buffer, memory.byteOffset, isComplex(dtype) ? 2 * numel : numel)
  }

  /**
   * A copy of the elements as nested arrays: int64 and uint64 as bigints, bool as booleans, every float as a number, complex ones as
   * {@link Complex}.
   */
  toArray(): NestedArray {
    const { shape, dtype } = this.#describe('toArray')
    const flat = readable(this, dtype)
    let offset = 0
    const build = (dimension: number): NestedArray => {
      if (dimension === shape.length) return flat(offset++)
      return Array.from({ length: shape[dimension]! }, () => build(dimension + 1))
    }
    return build(0)
  }

  /** The value of a tensor with one element. */
  item(): Element {
    const { numel, dtype, shape } = this.#describe('item')
    if (numel !== 1)
      throw new ArgumentError(
        'Tensor.item',
        'self',
        'a tensor with one element',
        `${dtype}[${shape.join(', ')}]`,
      )
    return readable(this, dtype)(0)
  }

  /** The tensor in another dtype or on another device; the same memory where nothing changes. A new object always. */
  to(options: DType | ToOptions): Tensor {
    if (typeof options === 'string')
      return callOperator('aten::to.dtype_layout', this, { dtype: options }) as Tensor
    const { nonBlocking, ...target } = options ?? {}
    const more = nonBlocking === undefined ? {} : { non_blocking: nonBlocking }
    return callOperator('aten::to.dtype_layout', this, { ...target, ...more }) as Tensor
  }

  /** Whether the memory is page-locked, so that devices copy from and to it without blocking. */
  get isPinned(): boolean {
    this.#describe('isPinned')
    // Without an accelerator nothing is pinned, and asking libtorch would settle that there is none.
    return accelerator() !== undefined && (callOperator('aten::is_pinned', this) as boolean)
  }

  /**
   * The tensor in page-locked memory of the CPU, which `to` with `nonBlocking` needs; itself as a new object where it is.
   *
   * @throws {VllmOpsError} `E_NO_DEVICE` without an accelerator
   */
  pinMemory(): Tensor {
    requireAccelerator('Tensor.pinMemory')
    return callOperator('aten::pin_memory', this) as Tensor
  }

  /** A copy with memory of its own. */
  clone(): Tensor {
    return callOperator('aten::clone', this) as Tensor
  }

  /** The tensor with its elements in row-major order: the same memory where they are, a copy where not. A new object always. */
  contiguous(): Tensor {
    return callOperator('aten::contiguous', this) as Tensor
  }

  /** The same memory in another shape; one size may be -1. */
  view(shape: readonly number[]): Tensor {
    return callOperator('aten::view', this, shape) as Tensor
  }

  /** The elements in another shape, without a copy where that is possible. */
  reshape(shape: readonly number[]): Tensor {
    return callOperator('aten::reshape', this, shape) as Tensor
  }

  /** The same bytes read as another dtype, in the given shape. The tensor must be contiguous. */
  viewAs(dtype: DType, shape: readonly number[]): Tensor {
    const bytes = callOperator('aten::view.dtype', this, dtype) as Tensor
    try {
      return bytes.view(shape)
    } finally {
      bytes.dispose()
    }
  }

  /** The view with two dimensions exchanged. */
  transpose(dim0: number, dim1: number): Tensor {
    return callOperator('aten::transpose.int', this, dim0, dim1) as Tensor
  }

  /** The view of `length` entries of a dimension, from `start`. */
  narrow(dim: number, start: number, length: number): Tensor {
    return callOperator('aten::narrow', this, dim, start, length) as Tensor
  }

  /** The view of one entry of a dimension, which goes away. */
  select(dim: number, index: number): Tensor {
    return callOperator('aten::select.int', this, dim, index) as Tensor
  }

  /** The view of every `step`-th entry of a dimension from `start` to before `end`. */
  slice(dim: number, start?: number, end?: number, step = 1): Tensor {
    return callOperator('aten::slice.Tensor', this, dim, start ?? null, end ?? null, step) as Tensor
  }

  /**
   * The part that the indices choose, one for each dimension from the first: a number (the dimension goes away), `{ start, end, step }`,
   * `null` (a new dimension of size 1), `'...'` (all dimensions in between), or a tensor of positions or truths. A view of the same
   * memory, but where a tensor chooses: then a copy. As Python's `x[…]`.
   *
   * @throws {ArgumentError} for more indices than dimensions, and for positions beyond a dimension
   */
  index(...indices: readonly Index[]): Tensor {
    return indexed(this, indices)
  }

  /** Writes a number, or the elements of a tensor (broadcast), to what `index` would choose. Returns this tensor. */
  indexPut_(indices: readonly Index[], value: Tensor | number | bigint | boolean): this {
    putIndexed(this, indices, value)
    return this
  }

  /**
   * A handle under which other threads of the process open the same memory: see {@link SharedTensor}. Nothing is copied.
   *
   * @param options.opens how often it may be opened; as often as one likes where nothing is said
   * @throws {ArgumentError} for a tensor over memory of JavaScript, which belongs to its thread
   */
  share(options: { readonly opens?: number } = {}): SharedTensor {
    const { dtype, device, shape } = this.#describe('share')
    return shareHandle(this.#handle, { dtype, device, shape }, options)
  }

  /** What `JSON.stringify` writes: dtype, shape and nested arrays of the elements. `fromJSON` reads it. */
  toJSON(): TensorJSON {
    return jsonOf(this)
  }

  /** Copies the elements of another tensor into this one, converting and broadcasting. Returns this tensor. */
  copy_(source: Tensor): this {
    callOperator('aten::copy_', this, source)
    return this
  }

  /** `float32[2, 3]`, with the device where it isn't the CPU. */
  toString(): string {
    if (this.disposed) return 'disposed'
    return textOfDescription(this.#describe('toString'))
  }

  /** What `console.log` shows: elements as PyTorch prints them, dtype, shape and device. */
  [inspect.custom](depth: number): string {
    let what: string
    try {
      what = `${this}`
    } catch {
      // A tensor without sizes, such as a nested one.
      return 'tensor(...)'
    }
    if (this.disposed || depth < 0) return `tensor(${what})`
    let elements: string
    try {
      elements = formatElements(this, 'tensor('.length)
    } catch {
      // Not every tensor has elements to read: fake devices, sparse layouts, quantized types.
      elements = '...'
    }
    return `tensor(${elements}, ${what})`
  }
}

/** A reader of element i in row-major order, from a contiguous copy on the CPU. */
function readable(tensor: Tensor, dtype: DType): (index: number) => Element {
  const local = tensor.device === 'cpu' ? tensor : tensor.to({ device: 'cpu' })
  try {
    const eightBit = dtype.startsWith('float8')
    const plain = eightBit ? local.to('float32') : ownElements(local, dtype)
    // The array keeps the memory; the tensor objects made here go at once.
    const array = plain.data()
    plain.dispose()
    if (isComplex(dtype))
      return (index) => new Complex(Number(array[2 * index]), Number(array[2 * index + 1]))
    if (dtype === 'bool') return (index) => array[index] !== 0
    if (dtype === 'float16' || dtype === 'bfloat16') {
      const { decode } = halfFloats[dtype]
      return (index) => decode(Number(array[index]))
    }
    return (index) => array[index]!
  } finally {
    if (local !== tensor) local.dispose()
  }
}

/** PyTorch keeps a conjugate, or its imaginary part, as another tensor's memory and a bit: what makes numbers of their own of them. */
const RESOLVE = { complex: ['aten::resolve_conj', 'aten::resolve_neg'], real: ['aten::resolve_neg'] } as const

/** A contiguous tensor, which is the caller's, whose memory holds a tensor's elements themselves. */
function ownElements(tensor: Tensor, dtype: DType): Tensor {
  let own = tensor.contiguous()
  const steps = isComplex(dtype) ? RESOLVE.complex : dtype.includes('float') ? RESOLVE.real : []
  for (const step of steps) {
    const next = callOperator(step, own) as Tensor
    if (next !== own) own.dispose()
    own = next
  }
  return own
}
