// SPDX-License-Identifier: Apache-2.0
import {
  ArgumentError,
  arange,
  callAsync,
  empty,
  fromTypedArray,
  full,
  Library,
  memory,
  ones,
  ops,
  profile,
  randn,
  scope,
  type Tensor,
  tensor,
  torch,
  zeros,
} from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { resultOf, runModule } from './child'

const { aten } = torch

describe('callAsync', () => {
  it('runs an op elsewhere while JavaScript goes on', async () => {
    const x = randn([600, 600])
    let turns = 0
    const timer = setInterval(() => turns++, 1)
    const products = await Promise.all(Array.from({ length: 8 }, () => callAsync(aten.mm!, [x, x])))
    clearInterval(timer)
    const expected = aten.mm(x, x)
    for (const product of products) expect(product.toArray()).toEqual(expected.toArray())
  })

  it('gives results as a plain call does', async () => {
    const x = tensor([3, 1, 2])
    const out = zeros([3])
    expect(await callAsync(aten.neg!.out!, [x, { out }])).toBe(out)
    expect(out.toArray()).toEqual([-3, -1, -2])
    expect(await callAsync(aten.add_!, [x, ones([3]), { alpha: 2 }])).toBe(x)
    expect(x.toArray()).toEqual([5, 3, 4])
    const [values, places] = await callAsync<[Tensor, Tensor]>('aten::sort', [x])
    expect(values.toArray()).toEqual([3, 4, 5])
    expect(places.toArray()).toEqual([1n, 2n, 0n])
    expect(await callAsync<Tensor[]>(aten.split!.Tensor!, [x, 2])).toHaveLength(2)
    expect(await callAsync<number>('aten::size.int', [x, 0])).toBe(3)
  })

  it('is in inference mode there too', async () => {
    const result = await callAsync(aten.neg!, [ones([1])])
    expect(aten.is_inference!<boolean>(result)).toBe(true)
  })

  it('keeps its arguments alive', async () => {
    const x = full([1000], 3)
    const pending = callAsync(aten.sum!, [x])
    x.dispose()
    expect((await pending).item()).toBe(3000)
  })

  it('sees neither new sizes nor new memory of its arguments', async () => {
    const x = arange(0, 6, { dtype: 'float32' })
    const big = randn([500, 500])
    // All four threads are busy: the sum waits while its argument changes.
    const busy = Array.from({ length: 8 }, () => callAsync(aten.mm!, [big, big]))
    const pending = callAsync(aten.sum!.dim_IntList!, [x, [0]])
    aten.unsqueeze_!(x, 0)
    expect(() => aten.resize_!(x, [1 << 20])).toThrow('not resizable')
    expect((await pending).item()).toBe(15)
    await Promise.all(busy)
  })

  it('takes over what an op does to sizes', async () => {
    const x = ones([2, 3])
    expect(await callAsync(aten.t_!, [x])).toBe(x)
    expect(x.shape).toEqual([3, 2])
  })

  it('belongs to the scope that it was called in', async () => {
    // Those that were made from here on: the collector frees what earlier tests forgot.
    memory.track(true)
    const kept = await scope(async () => {
      const x = ones([4])
      await callAsync(aten.neg!, [x])
      await callAsync(aten.exp!, [x])
      return await callAsync(aten.sum!, [x])
    })
    const left = memory.live().filter(({ madeAt }) => madeAt !== undefined)
    memory.track(false)
    expect(left).toMatchObject([{ dtype: 'float32', shape: [] }])
    kept.dispose()
  })

  it('is recorded in a profile', async () => {
    const { record } = await profile(async () => {
      await callAsync(aten.mm!, [randn([64, 64]), randn([64, 64])])
    })
    expect(JSON.stringify(record)).toContain('aten::mm')
  })

  it('fails with the errors of a plain call', async () => {
    await expect(callAsync(aten.mm!, [ones([2, 3]), ones([2, 3])])).rejects.toMatchObject({
      code: 'E_TORCH',
      op: 'aten::mm',
    })
    await expect(callAsync(aten.mm!.default!, [ones([2, 3])])).rejects.toMatchObject({
      code: 'E_ARGUMENT',
      argument: 'mat2',
    })
    await expect(callAsync(aten.add!, [ones([1]), 'two'])).rejects.toThrow('one of its overloads')
    await expect(callAsync('aten::nothing', [])).rejects.toMatchObject({ code: 'E_NO_OP' })
    await expect(callAsync(Math.max, [1])).rejects.toMatchObject({ argument: 'op' })
    await expect(callAsync(aten.mm!, 3 as never)).rejects.toMatchObject({ argument: 'args' })
    await expect(callAsync(aten.mm!, [], { signal: 3 as never })).rejects.toMatchObject({
      argument: 'signal',
    })
    const gone = ones([1])
    gone.dispose()
    await expect(callAsync(aten.neg!, [gone])).rejects.toMatchObject({ received: 'a disposed tensor' })
    await expect(
      callAsync(ops.silu_and_mul, [empty([1, 1], { device: 'meta' }), ones([1, 2])]),
    ).rejects.toThrow()
  })

  it('refuses memory of JavaScript, which could go away', async () => {
    const borrowed = fromTypedArray(new Float32Array(4))
    for (const args of [[borrowed], [[ones([1]), borrowed]]])
      await expect(callAsync(args[0] === borrowed ? 'aten::neg' : 'aten::cat', args)).rejects.toThrow(
        'expected a tensor with memory of its own (use clone()), received one over an ArrayBuffer',
      )
    expect((await callAsync(aten.neg!, [borrowed.clone()])).shape).toEqual([4])
  })

  it('says that a kernel in TypeScript belongs to its thread', async () => {
    using library = new Library('elsewhere', 'FRAGMENT').define('twice(Tensor x) -> Tensor')
    library.impl('twice', (x: Tensor) => aten.add(x, x), 'CPU')
    await expect(callAsync('elsewhere::twice', [ones([1])])).rejects.toMatchObject({
      code: 'E_NO_KERNEL',
      message: expect.stringContaining('a JavaScript function of another thread'),
    })
  })

  it('is taken back by a signal before it begins, and not after', async () => {
    await expect(callAsync(aten.neg!, [ones([1])], { signal: AbortSignal.abort() })).rejects.toMatchObject({
      name: 'AbortError',
    })
    const big = randn([400, 400])
    const busy = Array.from({ length: 8 }, () => callAsync(aten.mm!, [big, big]))
    const controller = new AbortController()
    const waiting = callAsync(aten.neg!, [big], { signal: controller.signal })
    controller.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
    await Promise.all(busy)
    const late = new AbortController()
    const done = await callAsync(aten.neg!, [ones([1])], { signal: late.signal })
    late.abort()
    expect(done.item()).toBe(-1)
  })

  it('keeps errors of reading arguments apart from refusals', async () => {
    const options = {
      get alpha(): number {
        throw new RangeError('mine')
      },
    }
    await expect(callAsync(aten.add!.Tensor!, [ones([1]), ones([1]), options])).rejects.toThrow(RangeError)
    await expect(callAsync(aten.add!.Tensor!, ['1', ones([1])])).rejects.toBeInstanceOf(ArgumentError)
  })
})

describe('a process with calls in flight', () => {
  const CALLS = `
    import { callAsync, randn, torch } from '@vllm-ops/core'
    const x = randn([700, 700])
    for (let i = 0; i < 12; i++) callAsync(torch.aten.mm, [x, x]).then(() => {}, () => {})
  `
  it.each([
    ['ends when they are through', '', 0],
    ['exits', 'process.exit(7)', 7],
    ['exits between two', 'setTimeout(() => process.exit(8), 20)', 8],
    ['dies of an exception', "setTimeout(() => { throw new Error('mine') }, 10)", 1],
  ])('%s', async (_, body, code) => {
    expect(await runModule(CALLS + body)).toMatchObject({ code, signal: null })
  })

  it('terminates its workers', async () => {
    const sum = await resultOf<number>(`
      import { once } from 'node:events'
      import { Worker } from 'node:worker_threads'
      import { torch, ones } from '@vllm-ops/core'
      for (let i = 0; i < 6; i++) {
        const worker = new Worker(\`
          const { callAsync, randn, torch } = require('@vllm-ops/core')
          const x = randn([300, 300])
          const again = () => callAsync(torch.aten.mm, [x, x]).then((y) => { y.dispose(); again() })
          for (let i = 0; i < 6; i++) again()
          require('node:worker_threads').parentPort.postMessage(0)\`, { eval: true, execArgv: [] })
        await once(worker, 'message')
        await new Promise((done) => setTimeout(done, 7 * i))
        await worker.terminate()
      }
      console.log(torch.aten.sum(ones([3])).item())`)
    expect(sum).toBe(3)
  })
})
