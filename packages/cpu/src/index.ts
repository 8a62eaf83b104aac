// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { type Backend, loadLibrary, VllmOpsError } from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

/** The kernel library. It lies at the same place beside `src` and `dist`. */
const library = fileURLToPath(new URL('../build/Release/vllm_ops_cpu.so', import.meta.url))

/**
 * The CPU kernels of vllm-ops, compiled for several instruction sets in one library. The best one that this CPU runs is used;
 * the environment variable `VLLM_OPS_CPU_ISA` names another.
 *
 * ```ts
 * import { use } from '@vllm-ops/core'
 * import cpu from '@vllm-ops/cpu'
 * use(cpu)
 * ```
 */
const cpu: Backend = {
  name: 'cpu',
  dispatchKey: 'CPU',
  version,
  library,
  unsupported: {
    get_device_attribute: 'it is about a GPU',
    get_max_shared_memory_per_block_device_attribute: 'it is about a GPU',
  },
  register: requireIsa,
}
export default cpu

/** The instruction set whose kernels run: `baseline`, `avx2`, `avx512`, …. */
export function isa(): string {
  const name = text('vllm_ops_isa')
  if (name === '')
    throw new VllmOpsError(
      'E_BACKEND_UNAVAILABLE',
      `VLLM_OPS_CPU_ISA is '${process.env.VLLM_OPS_CPU_ISA}', which is not one of the instruction sets that run here: ${isas().join(', ')}`,
      { fix: `Unset VLLM_OPS_CPU_ISA, or set it to ${isas().join(' or ')}` },
    )
  return name
}

/** The instruction sets that the library is compiled for and this CPU runs, best last. */
export function isas(): string[] {
  return text('vllm_ops_isas').split(',')
}

/**
 * Uses the kernels of another instruction set for all calls of this process from now on.
 *
 * @param name one of `isas()`
 * @throws {VllmOpsError} `E_BACKEND_UNAVAILABLE` for any other name; the one in use stays
 */
export function setIsa(name: string): void {
  loadLibrary(library)
  if (native().libraryString(library, 'vllm_ops_set_isa', name) !== 0)
    throw new VllmOpsError('E_BACKEND_UNAVAILABLE', `no kernels for the instruction set '${name}' run here`, {
      fix: `Use one of: ${isas().join(', ')}`,
    })
}

/** An instruction set forced by the environment that does not run here is an error at once, not at the first op. */
function requireIsa(): void {
  isa()
}

function text(symbol: string): string {
  loadLibrary(library)
  return native().libraryString(library, symbol) ?? ''
}
