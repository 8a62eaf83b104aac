// SPDX-License-Identifier: Apache-2.0

/** Every way in which finding or fetching libtorch (or a wheel's files) can fail. */
export type LibtorchErrorCode =
  /** No libtorch where it was looked for. */
  | 'E_TORCH_NOT_FOUND'
  /** A libtorch is there, but it is older than the first release with the stable ABI that we use. */
  | 'E_TORCH_VERSION'
  /** `VLLM_OPS_TORCH` has a value other than `python`. */
  | 'E_TORCH_SOURCE'
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
  /** The cache folder can't be written. */
  | 'E_CACHE_WRITE'
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

/** The same failure of the file system for every step that writes: `ENOSPC`, `EACCES` and their like become our codes. */
export function writeError(error: unknown, path: string): unknown {
  const code = errnoOf(error)
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG')
    return new LibtorchError(
      'E_DISK_FULL',
      `The disk ran full while writing ${path}; nothing incomplete was left behind.`,
      'Free some space, or choose another disk: export XDG_CACHE_HOME=/path/with/space',
      { cause: error },
    )
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS')
    return new LibtorchError(
      'E_CACHE_WRITE',
      `${path} can't be written (${code}).`,
      'Choose a cache folder that you may write: export XDG_CACHE_HOME=/path/you/own',
      { cause: error },
    )
  return error
}

/** The errno name of a Node system error, or `undefined`. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
