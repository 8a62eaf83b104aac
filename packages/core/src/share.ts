// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import type { DType } from './dtype'
import { ArgumentError, VllmOpsError } from './errors'
import { native } from './native'
import { Tensor } from './tensor'

/** What a message to another thread carries of a tensor: the fields of a {@link SharedTensor}. */
export interface SharedTensorMessage {
  /** Names the tensor within this process. */
  readonly token: string
  readonly dtype: DType
  readonly device: string
  readonly shape: readonly number[]
}

/**
 * A tensor on its way to other threads of the process. It survives `postMessage`, `workerData` and `structuredClone` (of which
 * tensors themselves make an empty object); the other side calls `fromShared` with what arrived. All sides see one memory, as with a
 * SharedArrayBuffer: who writes while another reads has to arrange it, and nobody can resize it any more.
 *
 * The memory stays as long as any thread has a tensor of it, or this handle can be opened: until `dispose()`, until it was opened as
 * often as `opens` says, or until the thread that shared it ends. With `opens` it outlives that thread, since somebody is to get it.
 *
 * @example
 * worker.postMessage(x.share({ opens: 1 })) // in the worker: parentPort.on('message', (message) => fromShared(message))
 */
export class SharedTensor implements SharedTensorMessage {
  readonly token: string
  readonly dtype: DType
  readonly device: string
  readonly shape: readonly number[]

  /** @internal */
  constructor(token: string, { dtype, device, shape }: Omit<SharedTensorMessage, 'token'>) {
    this.token = token
    this.dtype = dtype
    this.device = device
    this.shape = shape
  }

  /** Nobody can open it from now on. Tensors that were opened stay. Twice is once. */
  dispose(): void {
    native().closeShared(this.token)
  }

  /** Takes the handle back at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** @internal Shares the tensor of a handle. */
export function shareHandle(
  handle: number,
  description: Omit<SharedTensorMessage, 'token'>,
  { opens = 0 }: { readonly opens?: number },
): SharedTensor {
  if (!Number.isSafeInteger(opens) || opens < 0)
    throw new ArgumentError('Tensor.share', 'opens', 'a whole number of 0 (no end) and more', inspect(opens))
  const token = native().share(handle, opens)
  if (token === undefined)
    throw new ArgumentError(
      'Tensor.share',
      'self',
      'a tensor with memory of its own (use clone())',
      'one over an ArrayBuffer, which belongs to this thread',
    )
  return new SharedTensor(token, description)
}

/**
 * The tensor that another thread of this process shared, over the same memory: a tensor of this thread, to be disposed like any other.
 *
 * @param shared what `share()` returned, or what became of it in a message
 * @throws {VllmOpsError} `E_NOT_SHARED` when it can't be opened any more, or was shared in another process
 */
export function fromShared(shared: SharedTensorMessage): Tensor {
  const token = typeof shared === 'object' && shared !== null ? shared.token : undefined
  if (typeof token !== 'string')
    throw new ArgumentError('fromShared', 'shared', 'what share() returned', inspect(shared, { depth: 0 }))
  const handle = native().openShared(token)
  if (handle === undefined) throw new VllmOpsError('E_NOT_SHARED', `no tensor is shared as ${inspect(token)}`)
  return Tensor.adopt(handle)
}
