// SPDX-License-Identifier: Apache-2.0
//
// What can be known of the CUDA kernels without a GPU: that the backend says so, and that the library has what it claims.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const folder = fileURLToPath(new URL('..', import.meta.url))
const library = join(folder, 'build/Release/vllm_ops_cuda.so')
// Compilers and other suites run at the same time.
const TIMEOUT = 120_000

/** Runs an ES module of its own in a process in which no GPU is seen. */
function run(module: string): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', module], {
    cwd: folder,
    env: { ...process.env, CUDA_VISIBLE_DEVICES: '' },
    encoding: 'utf8',
  })
  return { status, stdout, stderr }
}

describe('on a machine without a GPU', () => {
  it('use(cuda) is a status with reason and fix, and prints nothing', { timeout: TIMEOUT }, () => {
    const { status, stdout, stderr } = run(`
      import { use } from '@vllm-ops/core'
      import cuda from '@vllm-ops/cuda'
      console.log(JSON.stringify([use(cuda), use(cuda)]))
    `)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const [first, second] = JSON.parse(stdout)
    expect(first).toEqual([
      {
        name: 'cuda',
        status: 'unavailable',
        library,
        reason: expect.stringMatching(/NVIDIA driver|has no CUDA/),
        fix: expect.stringMatching(/driver|CUDA_VISIBLE_DEVICES|setup --cuda/),
      },
    ])
    expect(second).toEqual(first)
  })

  it("importing '@vllm-ops/cuda/register' throws the same", { timeout: TIMEOUT }, () => {
    const { status, stdout } = run(`
      await import('@vllm-ops/cuda/register').catch(({ code, message }) => console.log(code, message))
    `)
    expect(status).toBe(0)
    expect(stdout).toMatch(/^E_BACKEND_UNAVAILABLE backend cuda: .+\n$/)
  })
})

describe('vllm_ops_cuda.so', () => {
  it('has the schemas of core, and a kernel or a reason for every op', { timeout: TIMEOUT }, () => {
    // libtorch_cuda's stub, by which the library was linked, lets it open and register its kernels without the real one.
    const { status, stdout, stderr } = run(`
      import { createRequire } from 'node:module'
      import { cards, hasKernel, kernelKey } from '@vllm-ops/core'
      import { native } from '@vllm-ops/core/internal'
      import cuda from '@vllm-ops/cuda'
      const { libraryString, loadLibrary } = native()
      createRequire(import.meta.url)('../core/build/Release/vllm_ops_loader.node').open(${JSON.stringify(
        join(folder, 'build/stub/libtorch_cuda.so'),
      )})
      loadLibrary(cuda.library)
      const found = cards.map(({ schema }) => {
        const name = schema.slice(0, schema.indexOf('('))
        return [name, hasKernel('vllm_ops::' + name, kernelKey(cuda, schema)), cuda.unsupported?.[name] ?? null]
      })
      const schemas = libraryString(cuda.library, 'vllm_ops_schemas').trim().split('\\n')
      console.log(JSON.stringify({ found, schemas, expected: cards.map(({ schema }) => schema) }))
    `)
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const { found, schemas, expected } = JSON.parse(stdout)
    expect(found.length).toBeGreaterThan(8)
    for (const [name, hasKernel, reason] of found) expect([name, hasKernel]).toEqual([name, reason === null])
    expect(schemas.sort()).toEqual(expected.sort())
  })

  it('exports its schemas and nothing else', () => {
    const { stdout } = spawnSync('nm', ['-D', '--defined-only', library], { encoding: 'utf8' })
    const symbols = stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' ').at(-1))
    expect(symbols).toEqual(['vllm_ops_schemas'])
  })

  it('needs libtorch_cuda, which is found in the process, and no CUDA runtime of a certain version', () => {
    const { stdout } = spawnSync('readelf', ['-d', library], { encoding: 'utf8' })
    expect(stdout).toContain('Shared library: [libtorch_cuda.so]')
    expect(stdout).not.toMatch(/libcudart|RPATH|RUNPATH/)
  })
})

describe('the build', () => {
  it('refuses architectures that are none', { timeout: TIMEOUT }, () => {
    const build = mkdtempSync(join(tmpdir(), 'vllm-ops-cuda-'))
    const { status, stderr } = spawnSync('cmake', ['-S', folder, '-B', build], {
      env: { ...process.env, CUDAARCHS: '80;hopper' },
      encoding: 'utf8',
    })
    rmSync(build, { recursive: true })
    expect(stderr.replaceAll(/\s+/g, ' ')).toContain("CUDAARCHS: 'hopper' is no architecture such as 80")
    expect(status).not.toBe(0)
  })
})
