// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { VllmOpsError } from '@vllm-ops/core'
import { afterEach, describe, expect, it } from 'vitest'
import { isa, isas, setIsa } from '../src/index'

describe('instruction sets', () => {
  const first = isa()
  afterEach(() => setIsa(first))

  it('names what runs here, the plainest first and the one in use among them', () => {
    expect(isas()[0]).toBe('baseline')
    expect(isas()).toContain(isa())
  })

  it.each(isas())('switches to %s', (name) => {
    setIsa(name)
    expect(isa()).toBe(name)
  })

  it('refuses an unknown one and keeps the one in use', () => {
    expect(() => setIsa('mmx')).toThrow(VllmOpsError)
    expect(() => setIsa('mmx')).toThrow(
      expect.objectContaining({ code: 'E_BACKEND_UNAVAILABLE', fix: expect.stringContaining('baseline') }),
    )
    expect(isa()).toBe(first)
  })
})

describe('VLLM_OPS_CPU_ISA', () => {
  /** What a program with that variable prints, as JSON. */
  function withIsa(name: string, program: string): unknown {
    const output = execFileSync(process.execPath, ['--input-type=module', '-'], {
      cwd: fileURLToPath(new URL('../', import.meta.url)),
      env: { ...process.env, VLLM_OPS_CPU_ISA: name },
      input: `import { empty, loadLibrary, ops, use } from '@vllm-ops/core'; import cpu, { isa } from '@vllm-ops/cpu'; ${program}`,
      encoding: 'utf8',
    })
    return JSON.parse(output)
  }

  it('names the one to use', () => {
    expect(
      withIsa('baseline', 'const [{ status }] = use(cpu); console.log(JSON.stringify([status, isa()]))'),
    ).toEqual(['ready', 'baseline'])
  })

  it('fails when it does not run here, rather than to use another', () => {
    const reason = expect.stringMatching(
      /VLLM_OPS_CPU_ISA is 'mmx', which is not one of .* run here: baseline/,
    )
    expect(withIsa('mmx', 'console.log(JSON.stringify(use(cpu)[0]))')).toMatchObject({
      status: 'failed',
      reason,
    })
    const call = `try { ops.silu_and_mul(empty([1, 2]), empty([1, 4])) } catch (error) { console.log(JSON.stringify(error.message)) }`
    expect(withIsa('mmx', `loadLibrary(cpu.library); ${call}`)).toEqual(reason)
  })
})
