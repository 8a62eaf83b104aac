// SPDX-License-Identifier: Apache-2.0
// Plain JavaScript: scripts/run.mjs needs it on a fresh clone, before anything can be compiled.
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'

/**
 * The one folder outside a project that vllm-ops writes to: `$XDG_CACHE_HOME/vllm-ops`, else `~/.cache/vllm-ops`.
 * A relative `XDG_CACHE_HOME` counts as unset, as the XDG base directory specification says.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string}
 */
export function cacheRoot(env = process.env) {
  const xdg = env.XDG_CACHE_HOME
  return join(xdg && isAbsolute(xdg) ? xdg : join(env.HOME || homedir(), '.cache'), 'vllm-ops')
}
