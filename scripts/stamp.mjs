// SPDX-License-Identifier: Apache-2.0
// Tells in milliseconds whether anything changed since the last build: names, sizes and times of the sources and of what was built.
// It only decides whether turbo is asked at all; turbo itself goes by contents.
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Folders that no build reads or writes. */
const SKIPPED = new Set(['node_modules', '.git', '.turbo', '.cache', '.gpu', 'test', 'docs'])
/** Folders that builds write. */
const RESULTS = new Set(['dist', 'build'])
/** CMake's intermediate files, which change without meaning. */
const INTERMEDIATE = new Set(['CMakeFiles'])
/** What a build depends on beside files. */
const VARIABLES = [
  'LIBTORCH',
  'VLLM_OPS_TORCH',
  'XDG_CACHE_HOME',
  'CC',
  'CXX',
  'CXXFLAGS',
  'CUDACXX',
  'CUDA_HOME',
  'CUDA_PATH',
  'CUDAARCHS',
]

/**
 * Stands for everything that a build of the clone at `root` reads.
 *
 * @param {string} root
 * @param {NodeJS.ProcessEnv} [env]
 */
export function sourceStamp(root, env = process.env) {
  const surroundings = [process.version, process.arch, ...VARIABLES.map((name) => env[name] ?? '')]
  return digest([...surroundings, ...files(root, '', false)])
}

/**
 * Stands for everything that a build of the clone at `root` has written.
 *
 * @param {string} root
 */
export function resultStamp(root) {
  return digest(files(root, '', true))
}

/** @param {Iterable<string>} lines */
function digest(lines) {
  const hash = createHash('sha256')
  for (const line of lines) hash.update(`${line}\n`)
  return hash.digest('hex')
}

/**
 * @param {string} root
 * @param {string} folder
 * @param {boolean} results either the results or everything else
 * @returns {Generator<string>}
 */
function* files(root, folder, results, inResults = false) {
  const entries = readdirSync(join(root, folder), { withFileTypes: true })
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) {
      const within = inResults || RESULTS.has(entry.name)
      const skipped = within ? INTERMEDIATE.has(entry.name) || !results : SKIPPED.has(entry.name)
      if (!skipped) yield* files(root, path, results, within)
    } else if (entry.isFile() && inResults === results) {
      const { size, mtimeMs } = statSync(join(root, path))
      yield `${path} ${size} ${mtimeMs}`
    }
  }
}

/**
 * The text of a small file, or nothing where there is none.
 *
 * @param {string} path
 */
export function readText(path) {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

/**
 * Writes a small file so that it is never seen half-written.
 *
 * @param {string} path
 * @param {string} text
 */
export function writeText(path, text) {
  mkdirSync(dirname(path), { recursive: true })
  const temporary = `${path}.${process.pid}`
  writeFileSync(temporary, text)
  renameSync(temporary, path)
}
