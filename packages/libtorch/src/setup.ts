// SPDX-License-Identifier: Apache-2.0
import { type FetchOptions, fetchWheelFiles } from './fetch'
import { cachedTorch, findLibtorch, type Libtorch } from './find'
import { torchLock } from './torch-lock'

/**
 * Finds libtorch as `findLibtorch` does, and fetches the pinned one into the cache where that is used and not there yet. A libtorch
 * named by `LIBTORCH` or `VLLM_OPS_TORCH` is only looked for.
 *
 * @throws {LibtorchError} what `findLibtorch` and `fetchWheelFiles` throw
 */
export async function setupLibtorch(options: FetchOptions = {}): Promise<Libtorch> {
  const { env = process.env } = options
  if (!env.LIBTORCH && !env.VLLM_OPS_TORCH) await fetchWheelFiles(torchLock(), cachedTorch(env), options)
  return findLibtorch({ env })
}
