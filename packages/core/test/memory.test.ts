// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { resultOf } from './child'

const MB = 2 ** 20
const PREPARE = `
  import { empty, full, scope, torch, fromTypedArray, generator } from '@vllm-ops/core'
  import { native } from '@vllm-ops/core/internal'
  const rss = () => process.memoryUsage.rss()
  let peak = 0
  const watch = () => { peak = Math.max(peak, rss()) }
  empty([1]).dispose()
`

describe('memory', () => {
  it('of forgotten tensors comes back in a synchronous loop', async () => {
    const { grown } = await resultOf<{ grown: number }>(`${PREPARE}
      const before = rss()
      for (let i = 0; i < 1000; i++) { full([2 ** 18], i); if (i % 50 === 0) watch() }
      console.log(JSON.stringify({ grown: peak - before }))`)
    // 1000 MB were made: without V8 knowing of them nothing would be collected.
    expect(grown).toBeLessThan(300 * MB)
  })

  it('of small forgotten tensors does too', async () => {
    const { live, grown } = await resultOf<{ live: number; grown: number }>(`${PREPARE}
      const before = rss()
      for (let i = 0; i < 200_000; i++) { empty([64]); if (i % 5000 === 0) watch() }
      console.log(JSON.stringify({ grown: peak - before, live: native().liveTensors() }))`)
    // 51 MB of elements and about as much of objects were made.
    expect(grown).toBeLessThan(100 * MB)
    expect(live).toBeLessThan(150_000)
  })

  it.each([
    ['two tensors', 'torch.aten.relu_.default(x); torch.aten.copy_.default(x, y)'],
    ['five arguments', "torch.aten.scatter_reduce_.two(x, 0, index, y, 'amax')"],
    ['numbers and null', 'torch.aten.uniform_.default(x, 0.5, 1.5); torch.aten.clamp_.default(x, null, 2)'],
  ])('is not taken from the JavaScript heap by an in-place call of %s', async (_, body) => {
    const { least } = await resultOf<{ least: number }>(`${PREPARE}
      import { getHeapStatistics } from 'node:v8'
      const [x, y, index] = [full([8], 1), full([8], 0), full([8], 0, { dtype: 'int64' })]
      const run = (n) => { for (let i = 0; i < n; i++) ${body} }
      const grown = () => {
        const before = getHeapStatistics().used_heap_size
        run(20_000)
        return getHeapStatistics().used_heap_size - before
      }
      // The engine compiles in the background: it has to be asked between turns of the event loop.
      const rounds = []
      for (let i = 0; i < 20; i++) { rounds.push(grown()); await new Promise((done) => setTimeout(done, 5)) }
      console.log(JSON.stringify({ least: Math.min(...rounds.map((bytes) => bytes < 0 ? Infinity : bytes)) }))`)
    // One object of 12 bytes a call would be 240,000.
    expect(least).toBeLessThan(20_000)
  })

  it.each([
    ['dispose', 'empty([64]).dispose()'],
    ['ops', 'torch.aten.add(x, x).dispose()'],
    ['lists', 'for (const part of torch.aten.split(x, 1)) part.dispose()'],
    ['scope', 'scope(() => torch.aten.sum(torch.aten.neg(x)).item())'],
    ['borrowed memory', 'fromTypedArray(new Float32Array(64)).dispose()'],
    ['data', '{ const t = empty([64]); t.data()[0] = 1; t.dispose() }'],
    ['errors', 'try { torch.aten.neg.default(i) } catch {}'],
    ['failed results', 'try { torch.aten.add.out(x, x, { out: torch.aten.view(x, [3]) }) } catch {}'],
    ['strings', "try { torch.aten.neg.default('text ' + i) } catch {}"],
    ['generators', 'generator(1).dispose()'],
  ])('does not leak: %s', async (_, body) => {
    const { live, buffers, grown } = await resultOf<{ live: number; buffers: number; grown: number }>(
      `${PREPARE}
      const x = full([2], 1)
      const run = (n) => { for (let i = 0; i < n; i++) { ${body} } }
      const settle = async () => { for (let i = 0; i < 3; i++) { gc(); await new Promise((done) => setTimeout(done, 5)) } }
      run(80_000)
      await settle()
      const [live, before] = [native().liveTensors(), rss()]
      run(80_000)
      await settle()
      console.log(JSON.stringify({
        live: native().liveTensors() - live,
        buffers: native().arrayBuffers(),
        grown: rss() - before,
      }))`,
      { args: ['--expose-gc'] },
    )
    expect(live).toBe(0)
    expect(buffers).toBeLessThan(20_000)
    // One leaked object of 200 bytes in each of 80,000 rounds would be 16 MB.
    expect(grown).toBeLessThan(12 * MB)
  })
})
