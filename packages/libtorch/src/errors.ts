// SPDX-License-Identifier: Apache-2.0

/** Every way in which finding or fetching libtorch (or a wheel's files) can fail. */
export type LibtorchErrorCode =
  /** No libtorch where it was looked for. */
  | 'E_TORCH_NOT_FOUND'
  /** A libtorch is there, but it is older than the first release with the stable ABI that we use. */
  | 'E_TORCH_VERSION'
  /** `VLLM_OPS_TORCH` has a value other than `python`. */
  | 'E_TORCH_SOURCE'
  /** No CUDA toolkit to build kernels with, or one that is named and can't be used. */
  | 'E_CUDA_TOOLKIT'
  /** No wheel is pinned for this operating system and processor. */
  | 'E_PLATFORM'
  /** The Python interpreter that should run pip, or that should have torch, can't be started. */
  | 'E_PYTHON_MISSING'
  /** The Python interpreter has no pip module. */
  | 'E_PIP_MISSING'
  /** pip failed in a way that none of the other codes describes. */
  | 'E_PIP_FAILED'
  /** The package index can't be reached: no network, name resolution, proxy or certificates. */
  | 'E_NETWORK'
  /** The package index answered, and doesn't offer the pinned wheel. */
  | 'E_WHEEL_NOT_FOUND'
  /** Downloaded or extracted bytes differ from the lock's sha256 or size. */
  | 'E_HASH_MISMATCH'
  /** The wheel is not a zip archive that may be extracted. */
  | 'E_WHEEL_INVALID'
  /** Not enough space, or a quota was hit, on the disk that holds the cache. */
  | 'E_DISK_FULL'
  /** The cache folder can't be read or written. */
  | 'E_CACHE'
  /** The destination holds something that this package did not put there. */
  | 'E_DESTINATION'

/** A failure of this package: what happened (`message`), how a program tells it (`code`), how a person mends it (`fix`). */
export class LibtorchError extends Error {
  override readonly name = 'LibtorchError'
  /** Stable across releases. */
  readonly code: LibtorchErrorCode
  /** What to do, one sentence, with the command where one command mends it. */
  readonly fix: string

  constructor(code: LibtorchErrorCode, message: string, fix: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
    this.fix = fix
  }
}

/** A failure of the file system below `path`, as one of ours; anything else comes back as it is. */
export function fileError(error: unknown, path: string): unknown {
  const code = errnoOf(error)
  if (code === undefined || !(error instanceof Error)) return error
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG')
    return diskFull(`The disk ran full while writing ${path}; nothing incomplete was left behind.`, error)
  return new LibtorchError(
    'E_CACHE',
    `${path} can't be used: ${error.message}.`,
    'Choose a cache folder that you may write: export XDG_CACHE_HOME=/path/you/own',
    { cause: error },
  )
}

/** For a disk, or a quota, that is too small. */
export function diskFull(message: string, cause?: unknown): LibtorchError {
  const fix = 'Free some space, or choose another disk: export XDG_CACHE_HOME=/path/with/space'
  return new LibtorchError('E_DISK_FULL', message, fix, { cause })
}

/** The errno name (`ENOENT`) of a failed system call, or `undefined` for any other error. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
