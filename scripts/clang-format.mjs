// SPDX-License-Identifier: Apache-2.0
// node scripts/clang-format.mjs [--write] [file…]: checks, or rewrites, C++ files by .clang-format; all of ours by default.
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import clangFormat from 'clang-format'

const SOURCE = /\.(cpp|h|cu|cuh)$/
/** Folders with sources of others, or none. */
const SKIPPED = new Set(['node_modules', 'build', 'dist'])

const root = fileURLToPath(new URL('..', import.meta.url))
const write = process.argv.includes('--write')
const named = process.argv.slice(2).filter((argument) => argument !== '--write')
const files = named.length > 0 ? named : [...sources(root)]
if (files.length === 0) process.exit(0)

const { status, error } = spawnSync(
  clangFormat.getNativeBinary(),
  [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...files],
  { stdio: 'inherit' },
)
if (error) console.error(`clang-format: ${error.message}`)
else if (status !== 0) console.error('not formatted; to mend it: npm run format')
process.exit(status ?? 1)

/**
 * @param {string} folder
 * @returns {Generator<string>}
 */
function* sources(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory() && !SKIPPED.has(entry.name) && !entry.name.startsWith('.')) yield* sources(path)
    else if (entry.isFile() && SOURCE.test(entry.name)) yield path
  }
}
