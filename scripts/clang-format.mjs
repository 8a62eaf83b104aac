// SPDX-License-Identifier: Apache-2.0
// node scripts/clang-format.mjs [--write] [file…]: checks, or rewrites, C++ files by .clang-format; all tracked ones by default.
import { execFileSync, spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import clangFormat from 'clang-format'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const write = process.argv.includes('--write')
const named = process.argv.slice(2).filter((argument) => argument !== '--write')
const tracked = () =>
  execFileSync('git', ['ls-files', '-z', '*.cpp', '*.h', '*.cu', '*.cuh'], { cwd: root, encoding: 'utf8' })
    .split('\0')
    .filter(Boolean)
    .map((file) => join(root, file))
const files = named.length > 0 ? named : tracked()
if (files.length === 0) process.exit(0)

const { status, error } = spawnSync(
  clangFormat.getNativeBinary(),
  [...(write ? ['-i'] : ['--dry-run', '--Werror']), ...files],
  { stdio: 'inherit' },
)
if (error) console.error(`clang-format: ${error.message}`)
else if (status !== 0) console.error('not formatted; to mend it: npm run format')
process.exit(status ?? 1)
