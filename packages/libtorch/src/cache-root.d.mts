// SPDX-License-Identifier: Apache-2.0

/**
 * The one folder outside a project that vllm-ops writes to: `$XDG_CACHE_HOME/vllm-ops`, else `~/.cache/vllm-ops`.
 * A relative `XDG_CACHE_HOME` counts as unset, as the XDG base directory specification says.
 */
export function cacheRoot(env?: NodeJS.ProcessEnv): string
