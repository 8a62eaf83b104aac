// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  CUDA_TOOLKIT_VERSION,
  fetchWheelFiles,
  findCudaToolkit,
  findLibtorch,
  setupCudaToolkit,
  setupLibtorch,
  TORCH_VERSION,
} from '../src'
import { cudaToolkitFolder, cudaToolkitLock } from '../src/cuda-lock'
import { cachedTorch, cachedTorchCuda } from '../src/find'
import { MARKER, markerText } from '../src/marker'
import { TORCH_CUDA_VERSION, torchCudaLock } from '../src/torch-cuda-lock'
import { torchLock } from '../src/torch-lock'
import { parseWheelName, type WheelLock } from '../src/wheel-lock'
import { bytes, fileLock, World } from './support/world'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'libtorch-cuda-test-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function put(path: string, text = ''): string {
  const file = join(root, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, text, { mode: 0o755 })
  return file
}

/** Something that says of itself that it is the compiler of this version of CUDA. */
function putCompiler(version: string, folder = 'cuda'): string {
  return put(`${folder}/bin/nvcc`, `#!/bin/sh\necho 'Cuda compilation tools, release x, V${version}'\n`)
}

/** A folder that looks as if these wheels had been fetched. */
function putFetched(folder: string, lock: readonly WheelLock[]): void {
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, MARKER), markerText(lock))
}

// Nothing on the search path, so that a toolkit of this machine stays out of it; /usr/local/cuda is looked at all the same.
const bare = () => ({ PATH: join(root, 'empty'), XDG_CACHE_HOME: join(root, 'cache') })

describe('a CUDA toolkit', () => {
  test('is named by CUDACXX before all else', () => {
    const nvcc = putCompiler('12.8.61')
    const env = { ...bare(), CUDACXX: nvcc, CUDA_HOME: '/nowhere' }
    expect(findCudaToolkit({ env })).toEqual({
      version: '12.8.61',
      source: 'CUDACXX',
      root: join(root, 'cuda'),
      nvcc,
    })
  })

  test.for(['CUDA_HOME', 'CUDA_PATH'])('is named by %s', (name) => {
    const nvcc = putCompiler('13.2.1')
    expect(findCudaToolkit({ env: { ...bare(), [name]: join(root, 'cuda') } })).toMatchObject({
      source: 'CUDA_HOME',
      nvcc,
    })
  })

  test('is found on the search path, unless it is too old', () => {
    const nvcc = putCompiler('13.0.88')
    putCompiler('12.4.131', 'old')
    const path = [join(root, 'old/bin'), join(root, 'cuda/bin')]
    expect(findCudaToolkit({ env: { ...bare(), PATH: path[1] } })).toMatchObject({ source: 'path', nvcc })
    putFetched(join(root, 'cache/vllm-ops/cuda', cudaToolkitFolder()), cudaToolkitLock())
    expect(findCudaToolkit({ env: { ...bare(), PATH: path[0] } }).nvcc).not.toContain(join(root, 'old'))
  })

  test.for([
    ['too old', (): string => putCompiler('12.4.131'), /CUDA 12\.4\.131.*12\.8/],
    ['none', (): string => '/nowhere/nvcc', /no CUDA compiler that runs/],
  ] as const)('that is named and %s is an error, whatever else is there', ([, make, message]) => {
    const env = { ...bare(), CUDACXX: make() }
    const error = {
      code: 'E_CUDA_TOOLKIT',
      message: expect.stringMatching(message),
      fix: expect.stringContaining('unset CUDACXX'),
    }
    expect(() => findCudaToolkit({ env })).toThrow(expect.objectContaining(error))
  })

  test('that is named is never fetched', async () => {
    const nvcc = putCompiler('13.0.88')
    const env = { ...bare(), CUDACXX: nvcc, PYTHON: '/nowhere' }
    await expect(setupCudaToolkit({ env })).resolves.toMatchObject({ nvcc })
  })
})

describe('the locks', () => {
  test.for([...cudaToolkitLock(), ...torchCudaLock()])('$file is well-formed', (wheel) => {
    expect(() => parseWheelName(wheel.file)).not.toThrow()
    for (const part of [wheel, ...wheel.files, ...(wheel.trees ?? [])]) {
      expect(part.sha256).toMatch(/^[0-9a-f]{64}$/)
      expect(part.size).toBeGreaterThan(0)
    }
  })

  test('name the compiler of the version that is told, and the torch that is pinned', () => {
    expect(cudaToolkitLock().map(({ file }) => parseWheelName(file))).toContainEqual(
      expect.objectContaining({ project: 'nvidia_cuda_nvcc', version: CUDA_TOOLKIT_VERSION }),
    )
    const torch = (lock: readonly WheelLock[]) => lock.find(({ file }) => file.startsWith('torch-'))?.sha256
    expect(torch(torchCudaLock())).toBe(torch(torchLock()))
  })

  test('mark the programs, which can be run then', async () => {
    using world = new World()
    const file = fileLock('demo/bin/tool', 'text')
    const content = { 'demo/bin/tool': bytes('text'), 'demo/data': bytes('data') }
    const lock = world.publish('demo-1.0-py3-none-any.whl', content, {
      files: [{ ...file, executable: true }, fileLock('demo/data', 'data')],
    })
    await fetchWheelFiles(lock, world.destination, { env: world.env() })
    expect(statSync(join(world.destination, 'demo/bin/tool')).mode & 0o111).toBe(0o111)
    expect(statSync(join(world.destination, 'demo/data')).mode & 0o111).toBe(0)
  })
})

describe("libtorch's CUDA part", () => {
  const NAMES = ['libc10_cuda.so', 'libtorch_cuda.so']

  /** Something that looks like a libtorch with these files beside the usual ones. */
  function putTorch(files: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
    for (const name of ['libc10.so', 'libtorch_cpu.so']) put(`torch/lib/${name}`)
    put('torch/include/torch/csrc/api/include/torch/version.h')
    const numbers = [
      '#define TORCH_VERSION_MAJOR 2',
      '#define TORCH_VERSION_MINOR 13',
      '#define TORCH_VERSION_PATCH 0',
    ]
    put('torch/include/torch/headeronly/version.h', numbers.join('\n'))
    for (const [path, text] of Object.entries(files)) put(path, text)
    return { LIBTORCH: join(root, 'torch') }
  }
  const libraries = Object.fromEntries(NAMES.map((name) => [`torch/lib/${name}`, '']))

  test.for([
    ['version.py of a wheel', { 'torch/version.py': "cuda: Optional[str] = '13.0'\n" }, '13.0'],
    ['build-version of an archive', { 'torch/build-version': '2.13.0+cu128\n' }, '12.8'],
    ['nothing', {}, ''],
  ] as const)('is there with its libraries; its version is told by %s', ([, files, version]) => {
    const env = putTorch({ ...libraries, ...files })
    const paths = NAMES.map((name) => join(root, 'torch/lib', name))
    expect(findLibtorch({ env }).cuda).toEqual({ version, libraries: paths })
  })

  test('is not there without one of them, and setup says so when it is wanted', async () => {
    const env = putTorch({ 'torch/lib/libc10_cuda.so': '' })
    expect(findLibtorch({ env }).cuda).toBeUndefined()
    await expect(setupLibtorch({ env, cuda: true })).rejects.toMatchObject({ code: 'E_TORCH_NOT_FOUND' })
  })

  test('is a folder of its own in the cache, and counts when it is complete', () => {
    const env = { XDG_CACHE_HOME: root }
    putFetched(cachedTorch(env), torchLock())
    expect(findLibtorch({ env })).not.toHaveProperty('cuda')
    putFetched(cachedTorchCuda(env), torchCudaLock())
    const paths = NAMES.map((name) => join(cachedTorchCuda(env), 'torch/lib', name))
    expect(findLibtorch({ env })).toMatchObject({
      version: TORCH_VERSION,
      root: join(cachedTorch(env), 'torch'),
      cuda: { version: TORCH_CUDA_VERSION, libraries: paths },
    })
  })
})
