// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { loadLibrary } from '@vllm-ops/core'
import { libtorch, native } from '@vllm-ops/core/internal'

/** Whether CUDA can be used on this machine; if not, why and what mends it. */
export interface Availability {
  readonly available: boolean
  readonly reason?: string
  readonly fix?: string
}

/** What the driver says of itself (csrc/probe/probe.cpp). Versions are 1000 * major + 10 * minor. */
type DriverReport =
  | { readonly error: string }
  | { readonly driver: number; readonly devices: number; readonly toolkit: number }

const LIBRARY = fileURLToPath(new URL('../build/Release/vllm_ops_cuda_probe.so', import.meta.url))

const INSTALL_DRIVER = 'Install the NVIDIA driver of this GPU; nvidia-smi then lists it'

/** Looks for a driver, a device and a libtorch with CUDA, in this order. Prints nothing, and loads nothing of libtorch's CUDA. */
export function probe(): Availability {
  const missing = missingDriver()
  if (missing !== undefined)
    return unavailable(`there is no NVIDIA driver on this machine (${missing})`, INSTALL_DRIVER)
  if (!existsSync(LIBRARY))
    return unavailable('the kernels of @vllm-ops/cuda are not built', 'In a clone: npm run build')
  const { cuda, root, version } = libtorch()
  if (!cuda)
    return unavailable(
      `the libtorch in use, ${version} in ${root}, has no CUDA`,
      'Fetch its CUDA part (npx vllm-ops setup --cuda), or use the torch of your Python: export VLLM_OPS_TORCH=python',
    )
  return judge(askDriver())
}

function judge(report: DriverReport): Availability {
  if ('error' in report)
    return unavailable(`the NVIDIA driver does not work: ${report.error}`, INSTALL_DRIVER)
  const { driver, devices, toolkit } = report
  if (devices === 0)
    return unavailable(
      'the NVIDIA driver sees no device',
      'Check nvidia-smi and the variable CUDA_VISIBLE_DEVICES',
    )
  // Within a major version, newer kernels run on older drivers.
  if (Math.floor(driver / 1000) < Math.floor(toolkit / 1000))
    return unavailable(
      `the NVIDIA driver supports CUDA ${spell(driver)}, and the kernels were built with CUDA ${spell(toolkit)}`,
      'Update the driver, or build with an older toolkit: export CUDACXX=/path/to/nvcc',
    )
  return { available: true }
}

function unavailable(reason: string, fix: string): Availability {
  return { available: false, reason, fix }
}

/** The dynamic linker's reason for not opening the driver's library, or nothing where it opens. */
function missingDriver(): string | undefined {
  try {
    process.dlopen({ exports: {} }, 'libcuda.so.1')
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    // It was opened, then found to be no addon of Node, and closed again.
    return message.includes('did not self-register') ? undefined : message
  }
  return undefined
}

function askDriver(): DriverReport {
  loadLibrary(LIBRARY)
  const answer = native().libraryString(LIBRARY, 'vllm_ops_cuda_probe')
  return answer === undefined ? { error: `${LIBRARY} answers nothing` } : (JSON.parse(answer) as DriverReport)
}

/** 13000 → '13.0' */
function spell(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`
}
