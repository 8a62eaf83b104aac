// SPDX-License-Identifier: Apache-2.0
//
// Tensors over memory that is there already: of JavaScript, and of files.
import { types } from 'node:util'
import { type DType, dtypeOfArray, dtypes, isDType, type TypedArray } from './dtype'
import { ArgumentError } from './errors'
import { isComplex } from './json'
import { native } from './native'
import { checked, describe } from './options'
import { Tensor } from './tensor'

/** What becomes of the memory. */
export interface BufferOptions {
  /**
   * Copies the elements into memory of the tensor's own: what is written to either the other does not see. It takes shared, resizable
   * and oddly aligned memory too, and gives a tensor that can be passed to other threads and addons.
   */
  readonly copy?: boolean
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
  options: BufferOptions & { readonly dtype?: DType } = {},
): Tensor {
  const { copy } = checked('fromTypedArray', options, ['dtype', 'copy'])
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
    copy,
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
  options: BufferOptions = {},
): Tensor {
  const { copy } = checked('fromBuffer', options, ['copy'])
  return borrow('fromBuffer', memory, byteOffset, shape, dtype, copy)
}

const COPY = 'Copy its elements: { copy: true }'

function borrow(
  what: string,
  memory: ArrayBuffer | ArrayBufferView,
  byteOffset: number,
  shape: readonly number[],
  dtype: DType,
  copy = false,
): Tensor {
  if (!isDType(dtype)) throw new ArgumentError(what, 'dtype', "a dtype such as 'float32'", describe(dtype))
  const view = ArrayBuffer.isView(memory) ? memory : undefined
  const buffer = view ? view.buffer : memory
  if (!types.isAnyArrayBuffer(buffer) || (!copy && types.isSharedArrayBuffer(buffer)))
    throw new ArgumentError(what, 'memory', 'an ArrayBuffer or a view of one', describe(buffer), {
      fix: COPY,
    })
  if (!copy && 'resizable' in buffer && buffer.resizable)
    throw new ArgumentError(what, 'memory', 'an ArrayBuffer of a fixed length', 'a resizable one', {
      fix: COPY,
    })
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
  // Into memory of JavaScript first, which is as it should be; its tensor is cloned.
  if (copy) return copied(new Uint8Array(buffer, offset, bytes).slice(), dtype, sizes)
  if (offset % unit !== 0)
    throw new ArgumentError(
      what,
      'byteOffset',
      `elements at a multiple of ${unit} bytes of the buffer`,
      `byte ${offset}`,
      { fix: COPY },
    )
  return lent(buffer, offset, bytes, dtype, sizes)
}

function lent(
  buffer: ArrayBufferLike,
  offset: number,
  bytes: number,
  dtype: DType,
  shape: readonly number[],
): Tensor {
  const raw = Tensor.adopt(native().lend(buffer, offset, bytes))
  try {
    return raw.viewAs(dtype, shape)
  } finally {
    raw.dispose()
  }
}

function copied(bytes: Uint8Array, dtype: DType, shape: readonly number[]): Tensor {
  const view = lent(bytes.buffer, 0, bytes.length, dtype, shape)
  try {
    return view.clone()
  } finally {
    view.dispose()
  }
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
