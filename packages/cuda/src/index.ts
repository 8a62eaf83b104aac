// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import type { Backend } from '@vllm-ops/core'
import { libtorch } from '@vllm-ops/core/internal'
import { probe } from './probe'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

/**
 * The CUDA kernels of vllm-ops, for GPUs of compute capability 8.0 and newer (A100, H100, …). On a machine without a GPU, its driver
 * or a libtorch with CUDA, `use(cuda)` says so in its status and does nothing else.
 *
 * ```ts
 * import { use } from '@vllm-ops/core'
 * import cuda from '@vllm-ops/cuda'
 * use(cuda)
 * ```
 */
const cuda: Backend = {
  name: 'cuda',
  dispatchKey: 'CUDA',
  version,
  /** It lies at the same place beside `src` and `dist`. */
  library: fileURLToPath(new URL('../build/Release/vllm_ops_cuda.so', import.meta.url)),
  get libraries() {
    return libtorch().cuda?.libraries ?? []
  },
  /** Captured graphs and what a device is called. */
  deviceModule: fileURLToPath(new URL('../build/Release/vllm_ops_cuda_device.node', import.meta.url)),
  probe,
}
export default cuda
