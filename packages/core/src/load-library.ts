// SPDX-License-Identifier: Apache-2.0
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { inspect } from 'node:util'
import { ArgumentError, VllmOpsError } from './errors'
import { addonPath, libtorch, native, openLibrary } from './native'
import { readSharedLibrary, type SharedLibrary } from './shared-library'

/** Names in the Python wheel that a process of ours has an empty library for: their symbols are in libtorch_cpu, or are never called. */
const STAND_INS = new Set(['libtorch.so', 'libtorch_python.so'])
/** The libraries of PyTorch. */
const TORCH_LIBRARY = /^lib(c10|torch|aoti|shm|caffe2)\w*\.so$/
/** Symbols of PyTorch, in C++ and of its stable C interface. */
const TORCH_SYMBOL = /^(_Z(T[VISTt]|GV)?N?[KVRO]*(2at|3c10|5torch|6caffe2)|(aoti_)?torch_)/
/** How many missing symbols an error names. */
const NAMED_SYMBOLS = 3

const loaded = new Set<string>()

/**
 * Loads a shared library with torch registrations into the process: a package's kernels, or any extension of PyTorch that was built for
 * the libtorch at hand. Its ops are called by `torch.<namespace>.<op>`. Once is enough, twice does nothing.
 *
 * What it needs of PyTorch is looked up before anything of it runs, since a function that is missing would otherwise end the process
 * when it is first called.
 *
 * @param path absolute, or relative to the working directory
 * @throws {VllmOpsError} `E_BACKEND_UNAVAILABLE` where it does not open, `E_TORCH_ABI` where it was built for another torch
 */
export function loadLibrary(path: string): void {
  if (typeof path !== 'string' || path === '' || path.includes('\0'))
    throw new ArgumentError('loadLibrary', 'path', 'the path of a shared library', inspect(path))
  if (loaded.has(path)) return
  const addon = native()
  const library = readSharedLibrary(path)
  if (library) {
    openTorchLibraries(path, library)
    requireSymbols(path, library)
  }
  addon.loadLibrary(path)
  loaded.add(path)
}

/** Opens what of PyTorch the library names: by name, it would be looked for in the system's folders only. */
function openTorchLibraries(path: string, { needed }: SharedLibrary): void {
  const { lib, cuda } = libtorch()
  const missing: string[] = []
  for (const name of needed.filter((candidate) => TORCH_LIBRARY.test(candidate))) {
    // The CUDA part may lie in a folder of its own.
    const there = cuda?.libraries.find((library) => basename(library) === name) ?? join(lib, name)
    if (STAND_INS.has(name)) openLibrary(addonPath(name))
    else if (existsSync(there)) openLibrary(there)
    else missing.push(name)
  }
  if (missing.length > 0) throw otherTorch(path, `the libraries ${missing.join(', ')}`)
}

function requireSymbols(path: string, library: SharedLibrary): void {
  const wanted = library.undefined.filter((symbol) => TORCH_SYMBOL.test(symbol))
  const unresolved = native().unresolved(wanted)
  if (unresolved.length === 0) return
  // An extension in several libraries takes some of its symbols from those beside it.
  const beside = library.needed
    .map((name) => join(dirname(path), name))
    .map((candidate) => readSharedLibrary(candidate)?.defined)
  const missing = unresolved.filter(([symbol]) => !beside.some((defined) => defined?.has(symbol)))
  if (missing.length === 0) return
  const names = missing.slice(0, NAMED_SYMBOLS).map(([, name]) => name)
  const more = missing.length - names.length
  throw otherTorch(path, `${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`)
}

function otherTorch(path: string, needs: string): VllmOpsError {
  const { version, root } = libtorch()
  return new VllmOpsError(
    'E_TORCH_ABI',
    `${path} was built for another torch: it needs ${needs}, which the libtorch found, ${version} in ${root}, does not have`,
    {
      fix: `Use a build of it for torch ${version}, or name the torch it was built for: export LIBTORCH=/path/to/torch`,
    },
  )
}
