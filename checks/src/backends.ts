// SPDX-License-Identifier: Apache-2.0
import { use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import cuda from '@vllm-ops/cuda'

/** Makes the kernels of the CPU ready, and those of `device` where that is a GPU; throws where they cannot be. */
export function useFor(device: string): void {
  use(cpu, { strict: true })
  if (device.startsWith('cuda')) use(cuda, { strict: true })
}
