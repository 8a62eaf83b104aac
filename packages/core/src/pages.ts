// SPDX-License-Identifier: Apache-2.0
import { native } from './native'
import { Tensor } from './tensor'

/**
 * A uint8 tensor between two pages of memory that nobody can read or write, for checks of kernels: the process ends where one goes
 * beyond it.
 *
 * @param end which page it touches: it ends where the second begins, or begins where the first ends
 */
export function pagedTensor(bytes: number, end: 'atStart' | 'atEnd'): Tensor {
  return Tensor.adopt(native().pagedBytes(bytes, end === 'atEnd'))
}
