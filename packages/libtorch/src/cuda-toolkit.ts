// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { existsSync, realpathSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { cacheRoot } from './cache-root.mjs'
import { CUDA_TOOLKIT_VERSION, cudaToolkitFolder, cudaToolkitLock } from './cuda-lock'
import { LibtorchError } from './errors'
import { type FetchOptions, fetchWheelFiles } from './fetch'
import { type FindOptions, isCached } from './find'

/** A CUDA toolkit to compile kernels with. */
export interface CudaToolkit {
  /** Its compiler's, such as `13.0.88`. */
  readonly version: string
  /** Who named it: `CUDACXX`, `CUDA_HOME` (or `CUDA_PATH`), the search path (or `/usr/local/cuda`), or the cache. */
  readonly source: 'CUDACXX' | 'CUDA_HOME' | 'path' | 'cache'
  /** The folder that has `bin` and `include`. */
  readonly root: string
  /** The absolute path of its compiler. */
  readonly nvcc: string
}

/** The oldest toolkit that our kernels compile with. */
const OLDEST: readonly [number, number] = [12, 8]
const USUAL_PLACE = '/usr/local/cuda'

/**
 * Finds a CUDA toolkit of version 12.8 or newer without touching the network: by `CUDACXX` (its compiler), `CUDA_HOME` or `CUDA_PATH`
 * (its folder), the search path and `/usr/local/cuda`, else in the cache. One that is named by a variable and can't be used is an
 * error; an older one on the search path is passed over.
 *
 * @throws {LibtorchError} `E_CUDA_TOOLKIT`, `E_PLATFORM`
 */
export function findCudaToolkit({ env = process.env }: FindOptions = {}): CudaToolkit {
  const installed = findInstalled(env)
  if (installed) return installed
  const folder = cachedToolkit(env)
  if (!isCached(folder, cudaToolkitLock()))
    throw new LibtorchError(
      'E_CUDA_TOOLKIT',
      `There is no CUDA toolkit of version ${OLDEST.join('.')} or newer on this machine, nor in the cache (${folder}).`,
      'Install one and name its compiler (export CUDACXX=/path/to/nvcc), or fetch what is needed of one: npm run build',
    )
  const root = join(folder, 'nvidia/cu13')
  return { version: CUDA_TOOLKIT_VERSION, source: 'cache', root, nvcc: join(root, 'bin/nvcc') }
}

/**
 * Finds a CUDA toolkit as `findCudaToolkit` does, and fetches the pinned one into the cache where none is installed: compiler and
 * headers, 105 MB to download, 220 MB kept.
 *
 * @throws {LibtorchError} what `findCudaToolkit` and `fetchWheelFiles` throw
 */
export async function setupCudaToolkit(options: FetchOptions = {}): Promise<CudaToolkit> {
  const { env = process.env } = options
  if (!findInstalled(env)) await fetchWheelFiles(cudaToolkitLock(), cachedToolkit(env), options)
  return findCudaToolkit({ env })
}

function cachedToolkit(env: NodeJS.ProcessEnv): string {
  return join(cacheRoot(env), 'cuda', cudaToolkitFolder())
}

function findInstalled(env: NodeJS.ProcessEnv): CudaToolkit | undefined {
  const { CUDACXX, PATH = '' } = env
  if (CUDACXX) return named('CUDACXX', CUDACXX.includes('/') ? resolve(CUDACXX) : inPath(CUDACXX, PATH))
  const home = env.CUDA_HOME || env.CUDA_PATH
  if (home) return named('CUDA_HOME', join(resolve(home), 'bin/nvcc'))
  const candidates = [inPath('nvcc', PATH), join(USUAL_PLACE, 'bin/nvcc')]
  for (const nvcc of candidates) {
    const version = nvcc && versionOf(nvcc)
    if (version && isNewEnough(version)) return describe(nvcc, version, 'path')
  }
  return undefined
}

function named(source: 'CUDACXX' | 'CUDA_HOME', nvcc: string | undefined): CudaToolkit {
  const version = nvcc && versionOf(nvcc)
  if (version && isNewEnough(version)) return describe(nvcc, version, source)
  throw new LibtorchError(
    'E_CUDA_TOOLKIT',
    version
      ? `${source} names CUDA ${version}, and ${OLDEST.join('.')} is the oldest that kernels are built with.`
      : `${source} names no CUDA compiler that runs${nvcc ? ` (${nvcc})` : ''}.`,
    `Name a newer one, or let the pinned one be fetched: unset ${source}`,
  )
}

function describe(nvcc: string, version: string, source: CudaToolkit['source']): CudaToolkit {
  // Distributions link /usr/bin/nvcc to the toolkit's own folder.
  return { version, source, root: dirname(dirname(realpathSync(nvcc))), nvcc }
}

function inPath(name: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter(Boolean)
    .map((folder) => join(folder, name))
    .find((file) => existsSync(file))
}

/** The version that a compiler says of itself (`V13.0.88`), or nothing where it doesn't run. */
function versionOf(nvcc: string): string | undefined {
  if (!existsSync(nvcc)) return undefined
  const { stdout } = spawnSync(nvcc, ['--version'], { encoding: 'utf8' })
  return /\bV(\d+\.\d+\.\d+)/.exec(stdout ?? '')?.[1]
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])
}
