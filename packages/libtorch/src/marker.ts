// SPDX-License-Identifier: Apache-2.0
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from './errors'
import type { WheelLock } from './wheel-lock'

/**
 * The file inside a fetched folder that says which locks it was made from. It is written into the folder before the folder gets
 * its name, so a folder that has it is complete.
 */
export const MARKER = '.vllm-ops.json'

/** The marker's text for these locks. */
export function markerText(locks: readonly WheelLock[]): string {
  const lock = createHash('sha256').update(JSON.stringify(locks)).digest('hex')
  return `${JSON.stringify({ lock, wheels: locks.map(({ file, sha256 }) => ({ file, sha256 })) }, null, 2)}\n`
}

/** Whether `folder` was made from these very locks; `foreign` is a folder without our marker. */
export function folderState(
  folder: string,
  locks: readonly WheelLock[],
): 'complete' | 'outdated' | 'foreign' | 'absent' {
  try {
    return readFileSync(join(folder, MARKER), 'utf8') === markerText(locks) ? 'complete' : 'outdated'
  } catch (error) {
    const code = errnoOf(error)
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error
  }
  try {
    readFileSync(folder)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return 'absent'
  }
  return 'foreign'
}
