// SPDX-License-Identifier: Apache-2.0
import {
  type DType,
  empty,
  fromTypedArray,
  type Random,
  scope,
  type Tensor,
  type TensorSpec,
  type TypedArray,
  torch,
} from '@vllm-ops/core'
import { pagedTensor } from '@vllm-ops/core/internal'
import { product } from '../ops/math'

/** Elements before and behind a tensor: at least 64 bytes, so that the tensor begins where a cache line does. */
const MARGIN = 64

/**
 * Where a tensor's memory is: amid canaries; or up against a page that nobody can read or write, which ends where the tensor begins
 * (then a tensor that is not aligned is) or begins where it ends. Pages are of the CPU's memory only.
 */
export const placements = ['amid', 'atStart', 'atEnd'] as const

/** One of {@link placements}. */
export type Placement = (typeof placements)[number]

/**
 * What memory holds around a tensor and in its gaps. Floats are NaNs of a payload that nothing computes: reading them shows in the
 * result. Integers are far out of range for a position, a slot or a block.
 */
function canary(dtype: DType): Uint8Array {
  switch (dtype) {
    case 'float64':
      return new Uint8Array([0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5, 0xf8, 0x7f])
    case 'float32':
      return new Uint8Array([0xa5, 0xa5, 0xc5, 0x7f])
    case 'float16':
      return new Uint8Array([0xa5, 0x7e])
    case 'bfloat16':
      return new Uint8Array([0xc5, 0x7f])
    default:
      return new Uint8Array([0x5a])
  }
}

/** The storage positions of the elements of a strided tensor, in row-major order; `undefined` where they are dense. */
function positions({ shape, strides }: TensorSpec): Int32Array | undefined {
  if (!strides) return undefined
  let offsets = new Int32Array(1)
  for (const [dim, size] of shape.entries()) {
    const stride = strides[dim] ?? 0
    const next = new Int32Array(offsets.length * size)
    for (let i = 0, n = 0; i < offsets.length; i++)
      for (let j = 0; j < size; j++) next[n++] = (offsets[i] ?? 0) + j * stride
    offsets = next
  }
  return offsets
}

function paged(bytes: number, dtype: DType, placement: 'atStart' | 'atEnd'): Tensor {
  return torch.aten.view!.dtype!(pagedTensor(bytes, placement), dtype)
}

/** The bytes of an array's elements, without a copy. */
export function bytesOf(array: TypedArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}

/** The memory of a case's tensor before the call, and how to look at it afterwards. Made once, used for several calls. */
export class GuardedMemory {
  /** The elements as float64, dense: what the reference is given. Exact, since they were rounded to the dtype first. */
  readonly values: Float64Array
  private readonly before: Uint8Array
  /** Places in elements: of the first one, behind the last one, and of the end of the guarded memory. */
  private readonly first: number
  private readonly end: number
  private readonly length: number
  private readonly places: Int32Array | undefined

  constructor(
    readonly spec: TensorSpec,
    random: Random,
  ) {
    const { shape, dtype, fill, offset = 0 } = spec
    const count = product(shape)
    const exact = new Float64Array(count)
    for (let i = 0; i < count; i++) exact[i] = fill(i, random)
    this.places = positions(spec)
    const extent = this.places ? this.places.reduce((most, place) => Math.max(most, place + 1), 0) : count
    this.first = MARGIN + offset
    this.end = this.first + extent
    this.length = this.end + MARGIN
    const { before, values } = scope(() => {
      const rounded = fromTypedArray(exact, [count]).to(dtype)
      const elements = rounded.data()
      const storage = empty([this.length], { dtype }).data()
      const pattern = canary(dtype)
      const memory = bytesOf(storage)
      for (let i = 0; i < memory.length; i++) memory[i] = pattern[i % pattern.length] ?? 0
      this.scatter(elements, storage)
      return { before: memory.slice(), values: (rounded.to('float64').data() as Float64Array).slice() }
    })
    this.before = before
    this.values = values
  }

  private scatter(elements: TypedArray, storage: TypedArray): void {
    const { first, places } = this
    if (places) for (const [i, place] of places.entries()) storage[first + place] = elements[i] ?? 0
    else bytesOf(storage).set(bytesOf(elements), first * elements.BYTES_PER_ELEMENT)
  }

  /** A fresh tensor with these contents. */
  allocate(device: string, placement: Placement = 'amid'): GuardedTensor {
    const { shape, dtype, strides, device: own = device } = this.spec
    const from = placement === 'atStart' ? this.first : 0
    const to = placement === 'atEnd' ? this.end : this.length
    const itemsize = this.before.length / this.length
    const contents = this.before.subarray(from * itemsize, to * itemsize)
    const local =
      placement === 'amid' ? empty([this.length], { dtype }) : paged(contents.length, dtype, placement)
    if (contents.length > 0) bytesOf(local.data()).set(contents)
    const storage = own === 'cpu' ? local : local.to({ device: own })
    const dense = strides ?? shape.map((_, i) => product(shape.slice(i + 1)))
    const view = torch.aten.as_strided!(storage, shape, dense, this.first - from)
    return new GuardedTensor(this, storage, view, from * itemsize, this.first - from)
  }

  /** Compares memory after a call with what it was. Where `mayWrite`, the tensor's own elements may differ. */
  check(storage: Uint8Array, mayWrite: boolean, offset = 0): string | undefined {
    const after = this.before.slice()
    after.set(storage, offset)
    const rest = mayWrite ? this.withoutElements(after) : after
    if (Buffer.compare(this.before, rest) === 0) return undefined
    const place = this.before.findIndex((byte, i) => byte !== rest[i]) * (this.length / after.length)
    return this.complaint(Math.floor(place))
  }

  /** What memory would be after the call, had the tensor's elements stayed what they were. */
  private withoutElements(after: Uint8Array): Uint8Array {
    const { before, first, places, values } = this
    const itemsize = before.length / this.length
    const rest = after.slice()
    const restore = (from: number, count: number) =>
      rest.set(before.subarray(from * itemsize, (from + count) * itemsize), from * itemsize)
    if (places) for (const place of places) restore(first + place, 1)
    else restore(first, values.length)
    return rest
  }

  /** What was wrong to write at this place of memory, counted in elements. */
  private complaint(place: number): string {
    const { first, end, places, spec } = this
    if (place < first) return `wrote ${first - place} elements before its first one`
    if (place >= end) return `wrote ${place - end + 1} elements behind its last one`
    const index = places ? places.indexOf(place - first) : place - first
    return index < 0
      ? `wrote between its rows, ${place - first} elements behind its first one`
      : `changed element [${coordinates(index, spec.shape).join(', ')}], which its schema does not allow`
  }
}

/** A tensor amid memory that nobody may touch. */
export class GuardedTensor {
  constructor(
    readonly memory: GuardedMemory,
    private readonly storage: Tensor,
    readonly tensor: Tensor,
    /** Where in the guarded memory the storage begins, in bytes. */
    private readonly offset: number,
    /** Where in the storage the tensor begins, in elements. */
    private readonly start: number,
  ) {}

  /** What is wrong with the memory after a call. */
  check(mayWrite: boolean): string | undefined {
    return scope(() =>
      this.memory.check(bytesOf(this.storage.to({ device: 'cpu' }).data()), mayWrite, this.offset),
    )
  }

  /** A copy of all of the memory now. */
  bytes(): Uint8Array {
    return scope(() => bytesOf(this.storage.to({ device: 'cpu' }).data()).slice())
  }

  /** The elements now: out of a copy of the memory, so that no kernel but the tested one has touched what is compared. */
  values(): Float64Array {
    return scope(() => {
      const { shape, strides } = this.tensor
      return valuesOf(torch.aten.as_strided!(this.storage.to({ device: 'cpu' }), shape, strides, this.start))
    })
  }
}

/** A tensor's elements as float64, dense. */
export function valuesOf(tensor: Tensor): Float64Array {
  return scope(() => (tensor.to({ device: 'cpu' }).to('float64').contiguous().data() as Float64Array).slice())
}

/** The index in each dimension of the element at `index` in row-major order. */
export function coordinates(index: number, shape: readonly number[]): number[] {
  const result: number[] = []
  let rest = index
  for (let dim = shape.length - 1; dim >= 0; dim--) {
    const size = shape[dim] ?? 1
    result.unshift(rest % size)
    rest = Math.floor(rest / size)
  }
  return result
}
