// SPDX-License-Identifier: Apache-2.0
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { vllmOps } from './spawn'

const few = ['conformance', '--op', 'silu_and_mul', '--dtype', 'bfloat16']

describe('conformance', () => {
  it('prints a line for each op and the sum, with exit code 0 when all passed', async () => {
    const { code, stdout, stderr } = await vllmOps(few)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^silu_and_mul +bfloat16 (\d+)\/\1 {2}bfloat16, refuses (\d+)\/\2 {2}calls 1\/1\n/)
    expect(stdout).toMatch(/\ncpu on cpu: \d+ passed, 0 failed, in [\d.]+ s\n$/)
  })

  it('--json writes a report, or prints it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-conformance-'))
    const file = join(folder, 'report.json')
    await vllmOps([...few, '--json', file])
    const written = JSON.parse(readFileSync(file, 'utf8'))
    expect(written).toMatchObject({ backend: 'cpu', device: 'cpu', failed: 0, failures: [] })
    expect(Object.keys(written.ops)).toEqual(['silu_and_mul'])
    const { stdout } = await vllmOps([...few, '--json'])
    expect(JSON.parse(stdout).passed).toBe(written.passed)
    rmSync(folder, { recursive: true })
  })

  it('--repeat and --calls run the cases again and again', async () => {
    const repeated = await vllmOps([...few, '--repeat', '2', '--json'])
    expect(JSON.parse(repeated.stdout)).toMatchObject({ repeat: 2, failed: 0 })
    const called = await vllmOps([...few, '--calls', '100', '--json'])
    const counts = { silu_and_mul: { bfloat16: { passed: 1, of: 1 } } }
    expect(JSON.parse(called.stdout)).toMatchObject({ calls: 100, failed: 0, ops: counts })
  })

  it('--every leaves cases out', async () => {
    const { stdout } = await vllmOps([...few, '--every', '9', '--json'])
    const { ops, failed } = JSON.parse(stdout)
    expect(failed).toBe(0)
    expect(ops.silu_and_mul.bfloat16.of).toBeGreaterThan(1)
    expect(ops.silu_and_mul.bfloat16.of).toBeLessThan(9)
  })

  it('says why a backend cannot be used', async () => {
    // A machine with GPUs is then one without.
    const env = { CUDA_VISIBLE_DEVICES: '' }
    const { code, stdout, stderr } = await vllmOps(['conformance', '--backend', 'cuda'], { env })
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(/^error E_BACKEND_UNAVAILABLE: backend cuda is unavailable: .+\n {2}fix: .+\n$/)
  })

  it.each([
    [['--op', 'silu']],
    [['--dtype', 'float64']],
    [['--backend', 'tpu']],
    [['--repeat', '1']],
    [['--repeat', '2', '--calls', '2']],
  ])('refuses %j', async (args) => {
    const { code, stdout, stderr } = await vllmOps(['conformance', ...args])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(/^error E_USAGE: .+\n {2}fix: See vllm-ops conformance --help\n$/)
  })
})
