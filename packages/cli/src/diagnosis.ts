// SPDX-License-Identifier: Apache-2.0
import type { Dirent } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { arch, platform } from 'node:os'
import { join } from 'node:path'
import { type BackendReport, startBackends } from './backends'
import { explain } from './errors'

/** The state of the installation: the JSON form of `doctor`. */
export interface Diagnosis {
  /** `process.version`. */
  node: string
  /** `linux-x64`. */
  platform: string
  /** The libtorch in use; where there is none, nulls with the reason and what to do. */
  torch: {
    version: string | null
    /** The folder that has `lib` and `include`. */
    path: string | null
    /** Who named it: `LIBTORCH`, `python` or `cache`. */
    source: string | null
    /** The CUDA version of its CUDA part, null where it has none. */
    cuda: string | null
    reason?: string
    fix?: string
  }
  /** The one folder outside of the project that is written to. */
  cache: string
  /** Size of the files in it. */
  cache_bytes: number
  /** The instruction set of the CPU kernels in use, null if they cannot be used. */
  isa: string | null
  /** Threads that libtorch uses within one op, null if it cannot be loaded. */
  threads: number | null
  backends: BackendReport[]
  /** The devices of the backends that are ready, beside the CPU: what their libraries say of them. */
  devices: DeviceReport[]
}

/** An accelerator's device; null is what its backend does not say. */
export interface DeviceReport {
  /** `cuda:0`. */
  device: string
  /** The product's name. */
  name: string | null
  /** CUDA's compute capability: `9.0`. */
  capability: string | null
  total_memory_bytes: number | null
}

/** Looks at everything and throws for nothing: what is missing or broken is in the diagnosis. */
export async function diagnose(): Promise<Diagnosis> {
  const { cacheRoot } = await import('@vllm-ops/libtorch')
  const backends = await startBackends()
  const cpuIsReady = backends.some(({ report }) => report.name === 'cpu' && report.status === 'ready')
  const cache = cacheRoot()
  return {
    node: process.version,
    platform: `${platform()}-${arch()}`,
    torch: await findTorch(),
    cache,
    cache_bytes: await sizeOf(cache),
    isa: cpuIsReady ? (await import('@vllm-ops/cpu')).isa() : null,
    threads: await countThreads(),
    backends: backends.map(({ report }) => report),
    devices: await listDevices(),
  }
}

async function findTorch(): Promise<Diagnosis['torch']> {
  const { findLibtorch } = await import('@vllm-ops/libtorch')
  try {
    const { version, root, source, cuda } = findLibtorch()
    return { version, path: root, source, cuda: cuda?.version ?? null }
  } catch (error) {
    const { message, fix } = explain(error)
    return {
      version: null,
      path: null,
      source: null,
      cuda: null,
      reason: message,
      ...(fix === undefined ? {} : { fix }),
    }
  }
}

async function countThreads(): Promise<number | null> {
  try {
    return (await import('@vllm-ops/core')).getNumThreads()
  } catch {
    // Why it does not load is said by the backends.
    return null
  }
}

async function listDevices(): Promise<DeviceReport[]> {
  try {
    const { devices } = await import('@vllm-ops/core')
    return devices()
      .filter(({ accelerator }) => accelerator)
      .map(({ device, name = null, capability = null, totalMemory = null }) => ({
        ...{ device, name, capability, total_memory_bytes: totalMemory },
      }))
  } catch {
    // As above.
    return []
  }
}

/** Bytes of the files below `folder`; 0 if there is none. */
async function sizeOf(folder: string): Promise<number> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((): Dirent[] => [])
  const sizes = await Promise.all(
    entries.map(async (entry) => {
      const path = join(folder, entry.name)
      if (entry.isDirectory()) return await sizeOf(path)
      return await lstat(path).then(
        ({ size }) => size,
        () => 0,
      )
    }),
  )
  return sizes.reduce((sum, size) => sum + size, 0)
}
