// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { vllmOps } from './spawn'

describe('setup', () => {
  // What is in the cache is not fetched again: a package index that does not exist is never asked.
  const offline = { PIP_INDEX_URL: 'http://127.0.0.1:9/', PIP_NO_INDEX: '1' }

  it('--json says where everything is, without the network once it is there', async () => {
    const { code, stdout, stderr } = await vllmOps(['setup', '--json'], { env: offline })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const { torch, model, ...rest } = JSON.parse(stdout)
    expect(rest).toEqual({})
    expect(Object.keys(torch)).toEqual(['version', 'path', 'cuda'])
    expect(statSync(join(torch.path, 'lib')).isDirectory()).toBe(true)
    expect(model.name).toBe('SmolLM2-135M-Instruct')
    expect(statSync(model.path).size).toBe(98_362_432)
  })

  it('leaves the model out with --no-model', async () => {
    const { stdout } = await vllmOps(['setup', '--no-model', '--json'], { env: offline })
    expect(JSON.parse(stdout).model).toBe(null)
  })

  it('talks to a person on stderr', async () => {
    const { code, stdout, stderr } = await vllmOps(['setup'], { env: offline })
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' })
    expect(stderr).toMatch(
      /^libtorch 2\.\d+\.\d+( with CUDA [\d.]+)?: \/.+\nmodel SmolLM2-135M-Instruct: \/.+\.gguf\n$/,
    )
  })

  it('says what is missing where there is no Python, and leaves nothing half done', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-setup-'))
    const bare = { XDG_CACHE_HOME: folder, LIBTORCH: undefined, VLLM_OPS_TORCH: undefined }
    const { code, stdout, stderr } = await vllmOps(['setup'], { env: { ...bare, PYTHON: '/no/such/python' } })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^error E_PYTHON_MISSING: .+\n {2}fix: .+\n$/m)
    const left = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
      entry.isFile(),
    )
    expect(left.map(({ name }) => name)).toEqual([])
    rmSync(folder, { recursive: true })
  })
})
