// SPDX-License-Identifier: Apache-2.0
export { cacheRoot } from './cache-root.mjs'
export { LibtorchError, type LibtorchErrorCode } from './errors'
export { type FindOptions, findLibtorch, type Libtorch } from './find'
