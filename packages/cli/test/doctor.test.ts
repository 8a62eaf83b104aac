// SPDX-License-Identifier: Apache-2.0
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { vllmOps } from './spawn'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vllm-ops-doctor-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** A machine on which nothing was set up. */
const bare = () => ({
  HOME: folder,
  XDG_CACHE_HOME: undefined,
  LIBTORCH: undefined,
  VLLM_OPS_TORCH: undefined,
})

describe('doctor on a machine that is set up', () => {
  it('--json says what works, and nothing else', async () => {
    // A machine with GPUs is then one without.
    const { code, stdout, stderr } = await vllmOps(['doctor', '--json'], {
      env: { CUDA_VISIBLE_DEVICES: '' },
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const diagnosis = JSON.parse(stdout)
    expect(Object.keys(diagnosis)).toEqual(
      'node platform torch cache cache_bytes isa threads backends devices'.split(' '),
    )
    expect(diagnosis.node).toBe(process.version)
    expect(Object.keys(diagnosis.torch)).toEqual(['version', 'path', 'source', 'cuda'])
    expect(diagnosis.torch.version).toMatch(/^2\.\d+\.\d+/)
    expect(statSync(join(diagnosis.torch.path, 'lib')).isDirectory()).toBe(true)
    expect(diagnosis.isa).toMatch(/^[a-z0-9_]+$/)
    expect(diagnosis.threads).toBeGreaterThanOrEqual(1)
    expect(diagnosis.devices).toEqual([])
    const [cpu, cuda] = diagnosis.backends
    expect(cpu).toEqual({ name: 'cpu', status: 'ready', library: cpu.library })
    expect(isAbsolute(cpu.library) && statSync(cpu.library).isFile()).toBe(true)
    expect(cuda).toEqual({
      name: 'cuda',
      status: 'unavailable',
      library: expect.stringMatching(/\/vllm_ops_cuda\.so$/),
      reason: expect.stringMatching(/NVIDIA driver|has no CUDA/),
      fix: expect.stringMatching(/driver|CUDA_VISIBLE_DEVICES|setup --cuda/),
    })
  })

  it('says the same to a person, and exits with 0', async () => {
    const { code, stdout, stderr } = await vllmOps(['doctor'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^torch +2\.\d+\.\d+( with CUDA [\d.]+)? in \/.+ \((cache|LIBTORCH|python)\)$/m)
    expect(stdout).toMatch(/^backend cpu +ready, \/.+\.so$/m)
  })

  it('shows the instruction set that the environment asks for, and why one cannot be used', async () => {
    const forced = await vllmOps(['doctor', '--json'], { env: { VLLM_OPS_CPU_ISA: 'baseline' } })
    expect(JSON.parse(forced.stdout).isa).toBe('baseline')
    const unknown = await vllmOps(['doctor', '--json'], { env: { VLLM_OPS_CPU_ISA: 'mmx' } })
    const { isa, backends } = JSON.parse(unknown.stdout)
    expect(isa).toBe(null)
    expect(backends[0]).toMatchObject({ status: 'failed', reason: expect.stringContaining("'mmx'") })
  })
})

describe('doctor on a machine where nothing is set up', () => {
  it('--json says what is missing and what mends it, with exit code 0', async () => {
    const { code, stdout, stderr } = await vllmOps(['doctor', '--json'], { env: bare() })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const diagnosis = JSON.parse(stdout)
    expect(diagnosis.torch).toMatchObject({ version: null, path: null, source: null, cuda: null })
    expect(diagnosis.torch.reason).toContain(folder)
    expect(diagnosis.torch.fix).toContain('vllm-ops setup')
    expect(diagnosis).toMatchObject({
      cache: join(folder, '.cache/vllm-ops'),
      cache_bytes: 0,
      isa: null,
      threads: null,
    })
    expect(diagnosis.backends[0]).toMatchObject({
      name: 'cpu',
      status: 'failed',
      fix: expect.stringMatching(/setup/),
    })
  })

  it('tells a person, exits with 1 and writes nothing', async () => {
    const { code, stdout, stderr } = await vllmOps(['doctor'], { env: bare() })
    expect({ code, stderr }).toEqual({ code: 1, stderr: '' })
    expect(stdout).toMatch(/fix: .*vllm-ops setup/)
    expect(readdirSync(folder)).toEqual([])
  })

  it('respects XDG_CACHE_HOME and counts what is in the cache', async () => {
    const env = { ...bare(), XDG_CACHE_HOME: join(folder, 'xdg') }
    const empty = JSON.parse((await vllmOps(['doctor', '--json'], { env })).stdout)
    expect(empty.cache).toBe(join(folder, 'xdg/vllm-ops'))
    // Something the cache may hold, in a folder of the same depth as a model.
    mkdirSync(join(empty.cache, 'models/any'), { recursive: true })
    writeFileSync(join(empty.cache, 'models/any/file'), Buffer.alloc(12345))
    const filled = JSON.parse((await vllmOps(['doctor', '--json'], { env })).stdout)
    expect(filled.cache_bytes).toBe(12345)
  })

  it.each([[['ops', '--json']], [['run', '-p', 'x', '--json']], [['profile']]])(
    'makes %j fail with what and what to do, and nothing on stdout',
    async (args) => {
      const { code, stdout, stderr } = await vllmOps(args, { env: bare() })
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toMatch(/^error E_[A-Z_]+: .+\n {2}fix: .*vllm-ops setup.*\n$/)
    },
  )
})
