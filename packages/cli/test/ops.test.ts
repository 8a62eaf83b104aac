// SPDX-License-Identifier: Apache-2.0
import { cards, listOps } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { vllmOps } from './spawn'

interface Op {
  name: string
  schema: string
  backends: Record<string, boolean>
}

describe('ops', () => {
  it('--json lists what the dispatcher has, with the backends that have a kernel', async () => {
    const { code, stdout, stderr } = await vllmOps(['ops', '--json'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const ops: Op[] = JSON.parse(stdout)
    const expected = listOps('vllm_ops').map(({ name, schema }) => ({
      name,
      schema,
      // What is about a GPU has no meaning there.
      backends: { cpu: !/_device_attribute$/.test(name) },
    }))
    expect(ops).toEqual(expected.sort((a, b) => (a.name < b.name ? -1 : 1)))
    // The dispatcher prints a schema as its card writes it.
    const written: string[] = cards.map(({ schema }) => `vllm_ops::${schema}`)
    expect(ops.map(({ schema }) => schema)).toEqual(written.sort())
  })

  it.each([
    ['', {}],
    ['cuda , no-such', {}],
    ['cpu', { cpu: true }],
  ])("with VLLM_OPS_BACKENDS='%s' tries those only", async (VLLM_OPS_BACKENDS, backends) => {
    const { stdout } = await vllmOps(['ops', '--json'], { env: { VLLM_OPS_BACKENDS } })
    const ops: Op[] = JSON.parse(stdout)
    expect(ops.find(({ name }) => name === 'vllm_ops::rms_norm')?.backends).toEqual(backends)
  })

  it('prints schemas and backends for a person', async () => {
    const { code, stdout } = await vllmOps(['ops'])
    expect(code).toBe(0)
    expect(stdout).toContain('vllm_ops::silu_and_mul(Tensor(a!) out, Tensor input) -> ()\n    cpu\n')
  })

  it('--namespace lists others, overload by overload', async () => {
    const { stdout } = await vllmOps(['ops', '--namespace', 'aten', '--json'])
    const ops: Op[] = JSON.parse(stdout)
    expect(ops.length).toBeGreaterThan(1000)
    expect(ops.every(({ name }) => name.startsWith('aten::'))).toBe(true)
    const add = ops.find(({ name }) => name === 'aten::add.Tensor')
    expect(add?.schema).toBe('aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor')
    expect(add?.backends).toEqual({ cpu: true })
  })

  it('--types declares a namespace, and says what is wrong with one that is empty', async () => {
    const { code, stdout } = await vllmOps(['ops', '--types', 'vllm_ops'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/^\/\/ Written by: vllm-ops ops --types vllm_ops\n/)
    expect(stdout).toContain('(out: Tensor, input: Tensor): void')
    expect(await vllmOps(['ops', '--types', 'no_such'])).toMatchObject({ code: 1, stdout: '' })
  })

  it('lists nothing for a namespace that does not exist', async () => {
    expect(await vllmOps(['ops', '--namespace', 'no_such', '--json'])).toMatchObject({
      code: 0,
      stdout: '[]\n',
    })
  })
})
