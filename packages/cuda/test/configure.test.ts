// SPDX-License-Identifier: Apache-2.0
//
// What the build is told by the environment, in one folder: CMake keeps much of what it was told first.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'

const source = fileURLToPath(new URL('..', import.meta.url))
// Compilers are tried at the first time, and other suites run meanwhile.
const TIMEOUT = 300_000

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'vllm-ops-configure-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

/** Configures the folder; what nvcc is then told to make code for. */
function configure(architectures: string | undefined): { architectures: string[]; stderr: string } {
  const { stderr } = spawnSync('cmake', ['-S', source, '-B', folder, '-G', 'Unix Makefiles'], {
    env: { ...process.env, CUDAARCHS: architectures },
    encoding: 'utf8',
  })
  const flags = readFileSync(join(folder, 'CMakeFiles/vllm_ops_cuda.dir/flags.make'), 'utf8')
  const codes = flags.matchAll(/-gencode arch=\w+,code=(\w+)/g)
  return { architectures: [...new Set(Array.from(codes, ([, code]) => code!))], stderr }
}

it('CUDAARCHS is what code is made for, whatever it was the last time', { timeout: TIMEOUT }, () => {
  expect(configure(undefined).architectures).toEqual(['sm_80', 'sm_90a', 'compute_90'])
  expect(configure('86-real;120').architectures).toEqual(['sm_86', 'sm_120', 'compute_120'])
  expect(configure('80-virtual').architectures).toEqual(['compute_80'])
  expect(configure('').architectures).toEqual(['sm_80', 'sm_90a', 'compute_90'])
  expect(configure('ninety').stderr).toContain("CUDAARCHS: 'ninety' is no architecture such as 80, 90a-real")
})
