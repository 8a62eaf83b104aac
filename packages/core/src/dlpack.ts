// SPDX-License-Identifier: Apache-2.0
import { inspect } from 'node:util'
import { ArgumentError } from './errors'
import { native } from './native'
import { Tensor } from './tensor'

/**
 * The tensor for other native addons of the process, without a copy: a Node-API external with a DLPack tensor, tagged and laid out as
 * `@vllm-ops/core/include/vllm_ops/node_dlpack.h` says (C, without a line of ours to link). One consumer takes it; what nobody took is
 * freed with the external. The memory lives until the consumer is done with it, whatever becomes of this tensor.
 *
 * @param options.versioned `DLManagedTensorVersioned` (DLPack 1), which is the default, or the older `DLManagedTensor`
 * @throws {ArgumentError} for a tensor over memory of JavaScript, which could be transferred away under native code
 */
export function toDLPack(tensor: Tensor, options: { readonly versioned?: boolean } = {}): object {
  const { versioned = true } = options
  const handle = typeof tensor === 'object' && tensor !== null ? Tensor.handleOf(tensor) : undefined
  if (!handle)
    throw new ArgumentError(
      'toDLPack',
      'tensor',
      'a live tensor',
      handle === 0 ? 'a disposed one' : inspect(tensor),
    )
  const external = native().toDLPack(handle, versioned)
  if (external !== undefined) return external
  throw new ArgumentError(
    'toDLPack',
    'tensor',
    'a tensor with memory of its own (use clone())',
    'one over an ArrayBuffer, which JavaScript may take away',
  )
}

/**
 * A tensor over what another native addon gave as DLPack, of either version, without a copy. It takes the external's tensor: a second
 * time there is nothing to take.
 *
 * @throws {ArgumentError} for any other value
 * @throws {TorchError} for one that was taken, a DLPack version or a type that libtorch doesn't know
 */
export function fromDLPack(external: object): Tensor {
  const handle = native().fromDLPack(external)
  if (handle === undefined)
    throw new ArgumentError(
      'fromDLPack',
      'external',
      'an external tagged as a DLPack tensor (node_dlpack.h)',
      inspect(external, { depth: 0 }),
    )
  return Tensor.adopt(handle)
}
