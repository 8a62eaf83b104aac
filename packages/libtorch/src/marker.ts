// SPDX-License-Identifier: Apache-2.0
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf } from './errors'
import type { WheelLock } from './wheel-lock'

/**
 * The file inside a fetched folder that says which locks it was made from. It is written into the folder before the folder gets
 * its name, so a folder that has it is complete.
 */
export const MARKER = '.vllm-ops.json'

/** The marker's text: the wheels, and where which bytes of them went. */
export function markerText(locks: readonly WheelLock[]): string {
  const wheels = locks.map(({ file, sha256, files, trees = [] }) => ({
    file,
    sha256,
    kept: [...files, ...trees].map((part) => ({
      path: 'to' in part && part.to ? part.to : part.path,
      sha256: part.sha256,
      ...('executable' in part && part.executable ? { executable: true } : {}),
    })),
  }))
  return `${JSON.stringify({ wheels }, null, 2)}\n`
}

/**
 * What is at `folder`: all that these locks say, what other locks said, something that is not ours, or nothing (an empty folder is
 * nothing).
 */
export function folderState(
  folder: string,
  locks: readonly WheelLock[],
): 'complete' | 'outdated' | 'foreign' | 'absent' {
  try {
    return readFileSync(join(folder, MARKER), 'utf8') === markerText(locks) ? 'complete' : 'outdated'
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT' && errnoOf(error) !== 'ENOTDIR') throw error
  }
  if (!existsSync(folder)) return 'absent'
  return statSync(folder).isDirectory() && readdirSync(folder).length === 0 ? 'absent' : 'foreign'
}
