// SPDX-License-Identifier: Apache-2.0
// Packs what a GPU host without network, Node and npm needs into one folder: Node itself, the built packages and kernels, the sources
// of what has to be built against the torch there, checks, benchmarks, and the command `gpu` that runs them (scripts/gpu).
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { ROOT, ToolFailed } from './tools.mjs'

/** What is packed of a folder of the workspace, where it is there. */
const PARTS = [
  'package.json',
  'bin',
  'dist',
  'csrc',
  'include',
  'python',
  'CMakeLists.txt',
  'build/Release',
  'build/stub',
]
const LIMIT = 60e6

/**
 * Makes the bundle of everything that is built.
 *
 * @param {readonly string[]} args `--out FOLDER`; `.gpu` in the clone by default
 * @returns {number} the exit code
 */
export function packGpuBundle(args) {
  const [option, value, ...rest] = args
  if ((option !== undefined && option !== '--out') || (option && !value) || rest.length > 0) {
    process.stderr.write('usage: npm run gpu-bundle -- [--out FOLDER]\n')
    return 2
  }
  const out = resolve(value ?? join(ROOT, '.gpu'))
  const staging = mkdtempSync(join(tmpdir(), 'vllm-ops-gpu-'))
  try {
    rmSync(out, { recursive: true, force: true })
    mkdirSync(out, { recursive: true })
    copyFileSync(runtimeArchive(staging), join(out, 'node.tar.xz'))
    const project = join(staging, 'project')
    copyProject(project)
    archive(project, join(out, 'project.tar.xz'))
    copyFileSync(join(ROOT, 'scripts/gpu/gpu'), join(out, 'gpu'))
    chmodSync(join(out, 'gpu'), 0o755)
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
  const size = readdirSync(out).reduce((sum, name) => sum + statSync(join(out, name)).size, 0)
  process.stderr.write(
    `${out}: ${(size / 1e6).toFixed(1)} MB; on the GPU host: ${join(relative(ROOT, out), 'gpu')} setup\n`,
  )
  if (size > LIMIT) throw new ToolFailed(`The bundle is larger than ${LIMIT / 1e6} MB.`, 1)
  return 0
}

/**
 * This Node, without symbols. Compressing it takes most of the time, so it is kept.
 *
 * @param {string} staging
 */
function runtimeArchive(staging) {
  const kept = join(ROOT, '.cache/gpu', `node-${process.version}-${process.arch}.tar.xz`)
  if (existsSync(kept)) return kept
  const folder = join(staging, 'runtime')
  mkdirSync(join(folder, 'bin'), { recursive: true })
  tool('strip', ['-o', join(folder, 'bin/node'), process.execPath])
  mkdirSync(dirname(kept), { recursive: true })
  archive(folder, kept)
  return kept
}

/** @param {string} to */
function copyProject(to) {
  /** @type {Map<string, string>} packages that are copied, by name */
  const placed = new Map()
  for (const folder of workspaceFolders()) {
    copyParts(folder, join(to, folder))
    const { name } = manifest(join(ROOT, folder))
    const link = join(to, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(relative(dirname(link), join(to, folder)), link)
    placed.set(name, join(ROOT, folder))
  }
  for (const folder of workspaceFolders()) placeDependencies(join(ROOT, folder), placed, to)
  // What the addons are built with.
  placePackage('node-addon-api', join(ROOT, 'packages/core'), placed, to)
  placePackage('node-api-headers', join(ROOT, 'packages/core'), placed, to)
  cpSync(join(ROOT, 'csrc-common'), join(to, 'csrc-common'), { recursive: true })
  // The cards, from which a kernel library's schemas are read.
  cpSync(join(ROOT, 'packages/core/src/ops'), join(to, 'packages/core/src/ops'), { recursive: true })
  for (const name of ['gpu.mjs', 'sanitize.mjs'])
    copyFileSync(join(ROOT, 'scripts/gpu', name), join(to, name))
}

function workspaceFolders() {
  const packages = readdirSync(join(ROOT, 'packages')).map((name) => `packages/${name}`)
  return [...packages, 'bench', 'checks'].filter((folder) => existsSync(join(ROOT, folder, 'package.json')))
}

/**
 * @param {string} folder
 * @param {string} to
 */
function copyParts(folder, to) {
  // Addons are built on the host: those that are here belong to another libtorch.
  const filter = (/** @type {string} */ path) => !/\.(map|node|d\.c?ts)$/.test(path)
  for (const part of PARTS) {
    const from = join(ROOT, folder, part)
    if (existsSync(from)) cpSync(from, join(to, part), { recursive: true, filter })
  }
}

/**
 * Copies what a package needs at run time, and what that needs.
 *
 * @param {string} folder
 * @param {Map<string, string>} placed
 * @param {string} to
 */
function placeDependencies(folder, placed, to) {
  for (const name of Object.keys(manifest(folder).dependencies ?? {})) placePackage(name, folder, placed, to)
}

/**
 * @param {string} name
 * @param {string} from the package that needs it
 * @param {Map<string, string>} placed
 * @param {string} to
 */
function placePackage(name, from, placed, to) {
  const source = folderOf(name, from)
  const before = placed.get(name)
  if (before === source) return
  if (before) throw new ToolFailed(`Two versions of ${name} are installed: ${before} and ${source}.`, 1)
  placed.set(name, source)
  const filter = (/** @type {string} */ path) =>
    !/\.(map|d\.[cm]?ts)$/.test(path) && !path.slice(source.length).includes('node_modules')
  cpSync(source, join(to, 'node_modules', name), { recursive: true, filter })
  placeDependencies(source, placed, to)
}

/**
 * The folder of an installed package, which need not export its package.json.
 *
 * @param {string} name
 * @param {string} from
 */
function folderOf(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const candidate = join(folder, 'node_modules', name)
    if (existsSync(join(candidate, 'package.json'))) return realpathSync(candidate)
    if (dirname(folder) === folder) throw new ToolFailed(`${name} is not installed, which ${from} needs.`, 1)
  }
}

/** @param {string} folder */
function manifest(folder) {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
}

/**
 * @param {string} folder
 * @param {string} file
 */
function archive(folder, file) {
  // The same owner everywhere: the bundle is unpacked by whoever gets it.
  tool('tar', ['--owner=0', '--group=0', '--sort=name', '-C', folder, '-I', 'xz -6 -T0', '-cf', file, '.'])
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 */
function tool(command, args) {
  const { status, error, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new ToolFailed(`${command} failed: ${error?.message ?? stderr}`, 1)
}
