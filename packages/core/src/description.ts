// SPDX-License-Identifier: Apache-2.0
import { type DType, dtypeOf } from './dtype'
import { textOf, values } from './encoding'
import { ArgumentError, errorOf } from './errors'
import { native } from './native'

/** What the addon tells about a tensor, at the moment of asking: an op may resize it. */
export interface Description {
  readonly dtype: DType
  readonly device: string
  readonly shape: readonly number[]
  readonly strides: readonly number[]
  readonly itemsize: number
  readonly numel: number
  readonly storageOffset: number
  readonly isContiguous: boolean
}

/**
 * What the tensor of a handle is.
 *
 * @param what who asks, for the message
 * @throws {ArgumentError} for a handle that was released
 */
export function describeHandle(handle: number, what: string): Description {
  values[0] = handle
  native().describe()
  const ndim = values[0]!
  if (ndim === -1) throw new ArgumentError(`Tensor.${what}`, 'self', 'a live tensor', 'a disposed tensor')
  if (ndim < 0) throw errorOf(native().takeFailure())
  return {
    dtype: dtypeOf(values[1]!),
    itemsize: values[2]!,
    numel: values[3]!,
    storageOffset: values[4]!,
    isContiguous: values[5] === 1,
    device: textOf(values[6]!),
    shape: Array.from(values.subarray(8, 8 + ndim)),
    strides: Array.from(values.subarray(8 + ndim, 8 + 2 * ndim)),
  }
}

/** `float32[2, 3]`, with the device where it isn't the CPU. */
export function textOfDescription({ dtype, shape, device }: Description): string {
  return `${dtype}[${shape.join(', ')}]${device === 'cpu' ? '' : ` on ${device}`}`
}
