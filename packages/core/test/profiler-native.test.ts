// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import {
  defineScope,
  enterScope,
  exitScope,
  ones,
  type ProfilePhase,
  type ProfileRow,
  phase,
  profile,
  profiling,
  torch,
} from '../src/index'
import { runModule } from './child'

const linear = defineScope({ kind: 'module', class: 'Linear', path: 'model.up', weight: 'bfloat16[16, 8]' })

function rows(phase: ProfilePhase | undefined, name: string): ProfileRow[] {
  return phase!.rows.filter((row) => row.name === name)
}

describe("profile() on PyTorch's profiler", () => {
  it('sees every op with its types and shapes, under the module that called it', async () => {
    const x = ones([4, 8], { dtype: 'bfloat16' })
    const weight = ones([16, 8], { dtype: 'bfloat16' })
    const { result, record } = await profile(() => {
      expect(profiling()).toBe(true)
      enterScope(linear)
      const y = torch.aten!.linear!(x, weight)
      exitScope(linear)
      torch.aten!.add!.Scalar!(y, 1)
      torch.aten!.add!.Scalar!(y, 2)
      return y
    })
    expect(profiling()).toBe(false)
    expect(result.shape).toEqual([4, 16])
    const [run] = record.phases
    const [module] = rows(run, 'Linear')
    expect(module).toMatchObject({ kind: 'module', path: 'model.up', weight: 'bfloat16[16, 8]', calls: 1 })
    const [op] = rows(run, 'aten::linear')
    expect(op).toMatchObject({ kind: 'op', parent: module!.id, path: 'model.up', calls: 1 })
    expect(op!.dtypes.slice(0, 2)).toEqual(['bfloat16', 'bfloat16'])
    expect(op!.shapes.slice(0, 2)).toEqual([
      [4, 8],
      [16, 8],
    ])
    // What linear itself calls stands below it.
    expect(run!.rows.filter(({ parent }) => parent === op!.id).length).toBeGreaterThan(0)
    const [add] = rows(run, 'aten::add')
    expect(add).toMatchObject({ calls: 2, path: '', parent: rows(run, '(outside modules)')[0]!.id })
    expect(add!.dtypes[0]).toBe('bfloat16')
  })

  it('adds up to the time that the phase took', async () => {
    const x = ones([256, 256])
    let measured = 0
    const { record } = await profile(async () => {
      torch.aten!.mm!(x, x)
      await phase('products', () => {
        const start = performance.now()
        for (let i = 0; i < 20; i++) torch.aten!.mm!(x, x)
        measured = performance.now() - start
      })
    })
    const [products] = record.phases
    expect(record.phases).toHaveLength(1)
    expect(rows(products, 'aten::mm').map(({ calls }) => calls)).toEqual([20])
    const self = products!.rows.reduce((sum, row) => sum + row.self_cpu_us, 0)
    expect(Math.abs(self / products!.total_cpu_us - 1)).toBeLessThan(1e-9)
    // The two clocks are read at slightly different places: apart from that the times are the same.
    expect(Math.abs(products!.total_cpu_us - measured * 1000)).toBeLessThan(0.05 * measured * 1000 + 500)
  })

  it('leaves nothing behind where its start fails at any point, as where a worker is ended in it', async () => {
    const outcome = await runModule(`
      import { native } from '@vllm-ops/core/internal'
      const asked = { tables: false, shapes: true, memory: true, threads: true, device: false }
      let reads = 0
      const start = (fails) =>
        native().profilerStart(new Proxy(asked, {
          get(_, name) {
            if (reads++ === fails) throw new Error('ended')
            return asked[name]
          },
        }))
      start()
      native().profilerStop()
      const all = reads
      const messages = []
      for (let fails = 0; fails < all; fails++) {
        reads = 0
        for (const call of [() => start(fails), () => native().profilerStop()]) {
          try {
            call()
          } catch (error) {
            messages.push(error.message)
          }
        }
      }
      console.log(all >= 5, [...new Set(messages)].join(), messages.length === 2 * all)
    `)
    // What is left of Kineto's ends the process when it exits.
    expect(outcome).toMatchObject({
      code: 0,
      signal: null,
      stdout: 'true ended,no profile is running true\n',
    })
  })

  it('leaves types out where asked to, and then merges calls by name', async () => {
    const { record } = await profile(
      () => {
        for (const size of [1, 2]) torch.aten!.neg!(ones([size]))
      },
      { shapes: false },
    )
    expect(rows(record.phases[0], 'aten::neg')).toMatchObject([{ calls: 2, shapes: [], dtypes: [] }])
  })
})
