// SPDX-License-Identifier: Apache-2.0
export { cacheRoot } from './cache-root.mjs'
export { LibtorchError, type LibtorchErrorCode } from './errors'
export { type FetchOptions, type FetchProgress, fetchWheelFiles } from './fetch'
export { type FindOptions, findLibtorch, type Libtorch } from './find'
export { type ProgressStream, showProgress } from './progress'
export { setupLibtorch } from './setup'
export { TORCH_VERSION } from './torch-lock'
export type { FileLock, TreeLock, WheelLock } from './wheel-lock'
