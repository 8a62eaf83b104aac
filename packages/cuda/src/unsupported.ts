// SPDX-License-Identifier: Apache-2.0

/** The ops that have no CUDA kernel here, each with the reason. */
export const unsupported: Readonly<Record<string, string>> = {}
