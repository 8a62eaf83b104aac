// SPDX-License-Identifier: Apache-2.0
import { LibtorchError } from './errors'
import { type FetchOptions, fetchWheelFiles } from './fetch'
import { cachedTorch, cachedTorchCuda, findLibtorch, type Libtorch } from './find'
import { torchCudaLock } from './torch-cuda-lock'
import { torchLock } from './torch-lock'

/** Options of `setupLibtorch`. */
export interface SetupOptions extends FetchOptions {
  /** Its CUDA part too: 2.5 GB to download, 3 GB kept. */
  readonly cuda?: boolean
}

/**
 * Finds libtorch as `findLibtorch` does, and fetches the pinned one into the cache where that is used and not there yet. A libtorch
 * named by `LIBTORCH` or `VLLM_OPS_TORCH` is only looked for.
 *
 * @throws {LibtorchError} what `findLibtorch` and `fetchWheelFiles` throw; `E_TORCH_NOT_FOUND` when `cuda` is wanted and the one that
 *   is named has none
 */
export async function setupLibtorch({ cuda = false, ...options }: SetupOptions = {}): Promise<Libtorch> {
  const { env = process.env } = options
  if (!env.LIBTORCH && !env.VLLM_OPS_TORCH) {
    await fetchWheelFiles(torchLock(), cachedTorch(env), options)
    if (cuda) await fetchWheelFiles(torchCudaLock(), cachedTorchCuda(env), options)
  }
  const libtorch = findLibtorch({ env })
  if (cuda && !libtorch.cuda)
    throw new LibtorchError(
      'E_TORCH_NOT_FOUND',
      `The libtorch in ${libtorch.root} has no CUDA.`,
      'Name one that has, or let the pinned one be used: unset LIBTORCH VLLM_OPS_TORCH',
    )
  return libtorch
}
