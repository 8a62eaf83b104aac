// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { cacheRoot } from './cache-root.mjs'
import { fileError, LibtorchError } from './errors'
import { folderState } from './marker'
import { pythonCommand, pythonMissing } from './python'
import { TORCH_CUDA_VERSION, torchCudaFolder, torchCudaLock } from './torch-cuda-lock'
import { TORCH_VERSION, torchFolder, torchLock } from './torch-lock'
import type { WheelLock } from './wheel-lock'

/** A libtorch on this machine: what a build includes and links, and what a process loads. */
export interface Libtorch {
  /** As in its own headers, such as `2.13.0`. */
  readonly version: string
  /** Who named it: the variable `LIBTORCH`, an installed Python torch, or the cache that `setupLibtorch` fills. */
  readonly source: 'LIBTORCH' | 'python' | 'cache'
  /** The folder that has `lib`, `include` and `share`. */
  readonly root: string
  /** `root/lib`. */
  readonly lib: string
  /** Include folders, in order: the C++ API, and the headers below `torch/csrc/api`. */
  readonly include: readonly string[]
  /** Absolute paths of the libraries a process opens with `RTLD_GLOBAL`, in this order: libc10, libtorch_cpu. */
  readonly libraries: readonly string[]
  /** Its CUDA part, where it has one. */
  readonly cuda?: LibtorchCuda
}

/** The CUDA part of a libtorch. */
export interface LibtorchCuda {
  /** The CUDA version that it was built with, such as `13.0`; empty where it doesn't say. */
  readonly version: string
  /** Absolute paths of the libraries that a process opens with `RTLD_GLOBAL` after the CPU's, in this order: libc10_cuda, libtorch_cuda. */
  readonly libraries: readonly string[]
}

export interface FindOptions {
  /** Instead of `process.env`; read are `LIBTORCH`, `VLLM_OPS_TORCH`, `PYTHON`, `XDG_CACHE_HOME`, `HOME` and `PATH`. */
  readonly env?: NodeJS.ProcessEnv
}

/** The oldest release that our kernels' stable ABI loads on. */
const OLDEST: readonly [number, number] = [2, 10]

/**
 * Finds libtorch without touching the network: `LIBTORCH` (a folder with `lib` and `include`), else the torch of the user's Python
 * where `VLLM_OPS_TORCH=python` asks for it, else the cache. What is asked for and missing is an error, never replaced by the next.
 *
 * @throws {LibtorchError} `E_TORCH_NOT_FOUND`, `E_TORCH_VERSION`, `E_TORCH_SOURCE`, `E_PYTHON_MISSING`, `E_PLATFORM`
 */
export function findLibtorch({ env = process.env }: FindOptions = {}): Libtorch {
  if (env.LIBTORCH) return fromVariable(resolve(env.LIBTORCH))
  if (env.VLLM_OPS_TORCH) return fromPython(env)
  const folder = cachedTorch(env)
  if (!isCached(folder, torchLock()))
    throw new LibtorchError(
      'E_TORCH_NOT_FOUND',
      `libtorch ${TORCH_VERSION} is not in the cache (${folder}).`,
      'Fetch it: npx vllm-ops setup',
    )
  const cuda = cachedTorchCuda(env)
  return {
    ...describe(join(folder, 'torch'), TORCH_VERSION, 'cache'),
    ...(isCached(cuda, torchCudaLock())
      ? { cuda: describeCuda(join(cuda, 'torch'), TORCH_CUDA_VERSION) }
      : {}),
  }
}

/** Where the pinned libtorch is kept; its `torch` folder is a libtorch root. */
export function cachedTorch(env: NodeJS.ProcessEnv): string {
  return join(cacheRoot(env), 'libtorch', torchFolder())
}

/** Where its CUDA part is kept, which is fetched on its own. */
export function cachedTorchCuda(env: NodeJS.ProcessEnv): string {
  return join(cacheRoot(env), 'libtorch', torchCudaFolder())
}

/** Whether a folder of the cache is all that its lock says. */
export function isCached(folder: string, lock: readonly WheelLock[]): boolean {
  try {
    return folderState(folder, lock) === 'complete'
  } catch (error) {
    throw fileError(error, folder)
  }
}

function fromVariable(root: string): Libtorch {
  const missing = firstMissing(root)
  if (!missing) return supported(root, 'LIBTORCH')
  const nested = join(root, 'torch')
  throw new LibtorchError(
    'E_TORCH_NOT_FOUND',
    `LIBTORCH is ${root}, which has no ${missing}.`,
    firstMissing(nested)
      ? 'Name the folder that has lib and include, or let the pinned libtorch be used: unset LIBTORCH'
      : `Name the folder that has lib and include: export LIBTORCH=${nested}`,
  )
}

function fromPython(env: NodeJS.ProcessEnv): Libtorch {
  if (env.VLLM_OPS_TORCH !== 'python')
    throw new LibtorchError(
      'E_TORCH_SOURCE',
      `VLLM_OPS_TORCH is '${env.VLLM_OPS_TORCH}', and only 'python' (use the torch of your Python) has a meaning.`,
      'Use the pinned libtorch: unset VLLM_OPS_TORCH',
    )
  const python = pythonCommand(env)
  // The location is asked for without importing torch, which would take seconds.
  const script = [
    'import importlib.util, sys',
    "spec = importlib.util.find_spec('torch')",
    "sys.stdout.write(list(spec.submodule_search_locations)[0] if spec else '')",
  ].join('\n')
  const { error, status, stdout, stderr } = spawnSync(python, ['-c', script], { env, encoding: 'utf8' })
  if (error) throw pythonMissing(python, error, env)
  const root = stdout.trim()
  if (status !== 0 || !root)
    throw new LibtorchError(
      'E_TORCH_NOT_FOUND',
      `VLLM_OPS_TORCH is python, and ${python} has no torch${stderr ? ` (${stderr.trim().split('\n').at(-1)})` : ''}.`,
      `Install it: ${python} -m pip install torch`,
    )
  const missing = firstMissing(root)
  if (missing)
    throw new LibtorchError(
      'E_TORCH_NOT_FOUND',
      `The torch of ${python} is ${root}, which has no ${missing}.`,
      `Install it again: ${python} -m pip install --force-reinstall torch`,
    )
  return supported(root, 'python')
}

function supported(root: string, source: Libtorch['source']): Libtorch {
  const version = headerVersion(root)
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]))
    return describe(root, version ?? '', source)
  throw new LibtorchError(
    'E_TORCH_VERSION',
    `The libtorch in ${root} is ${version ?? 'of an unknown version'}, and the oldest supported is ${OLDEST.join('.')}.`,
    source === 'python'
      ? 'Update it (python3 -m pip install --upgrade torch), or use the pinned one: unset VLLM_OPS_TORCH'
      : 'Use the pinned one: unset LIBTORCH',
  )
}

function describe(root: string, version: string, source: Libtorch['source']): Libtorch {
  const lib = join(root, 'lib')
  const cuda = cudaLibraries(root).every((path) => existsSync(path))
  return {
    version,
    source,
    root,
    lib,
    include: [join(root, 'include'), join(root, 'include/torch/csrc/api/include')],
    libraries: libraryNames().map((name) => join(lib, name)),
    ...(cuda ? { cuda: describeCuda(root, cudaVersion(root)) } : {}),
  }
}

function describeCuda(root: string, version: string): LibtorchCuda {
  return { version, libraries: cudaLibraries(root) }
}

function cudaLibraries(root: string): string[] {
  return ['libc10_cuda.so', 'libtorch_cuda.so'].map((name) => join(root, 'lib', name))
}

/** Wheels say it in `version.py` (`cuda: Optional[str] = '13.0'`), archives in `build-version` (`2.13.0+cu130`). */
function cudaVersion(root: string): string {
  const said = /^cuda\b.*'(\d+\.\d+)'/m.exec(readIfThere(join(root, 'version.py')))?.[1]
  const [, major, minor] = /\+cu(\d+)(\d)/.exec(readIfThere(join(root, 'build-version'))) ?? []
  return said ?? (major === undefined ? '' : `${major}.${minor}`)
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : ''
}

function libraryNames(): string[] {
  const extension = process.platform === 'darwin' ? 'dylib' : 'so'
  return ['c10', 'torch_cpu'].map((name) => `lib${name}.${extension}`)
}

function firstMissing(root: string): string | undefined {
  return [
    ...libraryNames().map((name) => `lib/${name}`),
    'include/torch/csrc/api/include/torch/version.h',
  ].find((path) => !existsSync(join(root, path)))
}

/** `TORCH_VERSION_MAJOR.MINOR.PATCH` of the headers; newer releases keep the numbers under headeronly, older ones in the C++ API. */
function headerVersion(root: string): string | undefined {
  for (const header of ['torch/headeronly/version.h', 'torch/csrc/api/include/torch/version.h']) {
    const text = readIfThere(join(root, 'include', header))
    const parts = ['MAJOR', 'MINOR', 'PATCH'].map(
      (part) => new RegExp(`^#define TORCH_VERSION_${part} (\\d+)`, 'm').exec(text)?.[1],
    )
    if (parts.every((part) => part !== undefined)) return parts.join('.')
  }
  return undefined
}
