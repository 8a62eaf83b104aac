// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { resultOf, runModule } from './child'

const PREPARE = `
  import { once } from 'node:events'
  import { Worker } from 'node:worker_threads'
  import * as core from '@vllm-ops/core'
  const start = (body) => new Worker(
    \`(async () => {
      const { parentPort } = require('node:worker_threads')
      const core = require('@vllm-ops/core')
      const { torch, ones, empty, Library } = core
      const { aten } = torch
      \${body}
    })()\`, { eval: true, execArgv: [] })
`

describe('worker threads', () => {
  it('load the package at once, each with tensors of its own', async () => {
    const sums = await resultOf<number[]>(`${PREPARE}
      const workers = Array.from({ length: 6 }, (_, i) =>
        start(\`parentPort.postMessage(aten.sum(core.full([100], \${i})).item())\`))
      const sums = await Promise.all(workers.map(async (w) => (await once(w, 'message'))[0]))
      await Promise.all(workers.map((w) => w.terminate()))
      console.log(JSON.stringify([...sums, core.torch.aten.sum(core.ones([3])).item()]))`)
    expect(sums).toEqual([0, 100, 200, 300, 400, 500, 3])
  })

  it('have tensors of their own: another thread has no use for one', async () => {
    const message = await resultOf<string>(`${PREPARE}
      const worker = start("parentPort.once('message', (t) => { try { aten.neg(t) } catch (e) { parentPort.postMessage(e.message) } })")
      worker.postMessage(core.ones([1]))
      const [message] = await once(worker, 'message')
      await worker.terminate()
      console.log(JSON.stringify(message))`)
    expect(message).toContain("aten::neg: argument 'self': expected a tensor, received")
  })

  it.each([
    ['an op', 'const x = ones([300, 300]); parentPort.postMessage(1); for (;;) aten.mm(x, x).dispose()'],
    ['small ops', 'const x = ones([1]); parentPort.postMessage(1); for (;;) aten.add_(x, 1)'],
    ['errors', 'parentPort.postMessage(1); for (;;) try { aten.neg(1) } catch {}'],
    ['errors of the addon', "parentPort.postMessage(1); for (;;) try { core.mapFile('/none') } catch {}"],
    [
      'a kernel in TypeScript',
      `const lib = new Library('term', 'FRAGMENT').define('twice(Tensor x) -> Tensor')
       lib.impl('twice', (x) => aten.add(x, x), 'CPU')
       const x = ones([1]); parentPort.postMessage(1); for (;;) torch.term.twice(x).dispose()`,
    ],
    ['data', 'parentPort.postMessage(1); for (;;) { const x = empty([100]); x.data()[0] = 1 }'],
    ['borrowed memory', 'parentPort.postMessage(1); for (;;) core.fromTypedArray(new Float32Array(50))'],
    [
      'await in a scope',
      'parentPort.postMessage(1); for (;;) await core.scope(async () => { ones([1]); await null; ones([2]) })',
    ],
    ['profile()', 'parentPort.postMessage(1); for (;;) await core.profile(() => aten.neg(ones([1])))'],
  ])('are terminated in the middle of %s', async (_, body) => {
    const outcome = await runModule(`${PREPARE}
      for (let i = 0; i < 8; i++) {
        const worker = start(${JSON.stringify(body)})
        worker.on('error', (error) => { console.error(error); process.exitCode = 3 })
        await once(worker, 'message')
        await new Promise((done) => setTimeout(done, i * 3))
        await worker.terminate()
      }
      console.log(core.torch.aten.sum(core.ones([4])).item())`)
    expect(outcome).toMatchObject({ code: 0, signal: null, stdout: '4\n' })
  })

  it('call their own kernels, of one op', async () => {
    const result = await resultOf<(number | string)[]>(`${PREPARE}
      const body = (n) => \`
        const lib = new Library('shared', 'FRAGMENT').define('add_n(Tensor x) -> Tensor')
        \${n === 3 ? '' : \`lib.impl('add_n', (x) => aten.add(x, \${n}), 'CPU')\`}
        setInterval(() => {}, 1000)
        parentPort.postMessage('ready')
        parentPort.once('message', () => {
          try { parentPort.postMessage(torch.shared.add_n(ones([1])).item()) } catch (e) { parentPort.postMessage(e.code + ' ' + e.message) }
        })\`
      const workers = [1, 2, 3].map((n) => start(body(n)))
      await Promise.all(workers.map((w) => once(w, 'message')))
      const results = []
      for (const w of workers) { w.postMessage(0); results.push((await once(w, 'message'))[0]) }
      await Promise.all(workers.map((w) => w.terminate()))
      try { core.torch.shared.add_n(core.ones([1])) } catch (e) { results.push(e.code) }
      console.log(JSON.stringify(results))`)
    expect(result).toEqual([
      2,
      3,
      expect.stringMatching(/^E_NO_KERNEL .*JavaScript function of another thread/),
      'E_NO_KERNEL',
    ])
  })

  it.each(['events', 'tables'])('are profiled in the middle of ops, again and again, by %s', async (how) => {
    const outcome = await runModule(`
      import { once } from 'node:events'
      import { Worker } from 'node:worker_threads'
      import { profile } from '@vllm-ops/core'
      const body = \`
        import { callAsync, ones, torch } from '@vllm-ops/core'
        import { parentPort } from 'node:worker_threads'
        const x = ones([64, 64])
        for (let i = 0; ; i++) {
          for (let j = 0; j < 50; j++) torch.aten.mm(x, x).dispose()
          ;(await callAsync(torch.aten.tanh, [x])).dispose()
          if (i === 0) parentPort.postMessage(1)
        }
      \`
      const workers = [1, 2, 3].map(() => new Worker(body, { eval: true, execArgv: ['--input-type=module'] }))
      await Promise.all(workers.map((worker) => once(worker, 'message')))
      let calls = 0
      for (let i = 0; i < 40; i++) {
        const { record } = await profile(() => new Promise((done) => setTimeout(done, 5)), { record: '${how}' })
        for (const row of record.phases[0].rows) if (row.name === 'aten::mm') calls += row.calls
      }
      await Promise.all(workers.map((worker) => worker.terminate()))
      console.log(calls > 40)
    `)
    expect(outcome).toMatchObject({ code: 0, signal: null, stdout: 'true\n' })
  })

  it('profile first, with nothing to say on stderr', async () => {
    const outcome = await runModule(`
      import { ones } from '@vllm-ops/core'
      import { Worker } from 'node:worker_threads'
      ones([1])
      const body = "import { ones, profile, torch } from '@vllm-ops/core'; await profile(() => torch.aten.neg(ones([1])))"
      new Worker(body, { eval: true, execArgv: ['--input-type=module'] })
    `)
    expect(outcome).toEqual({ code: 0, signal: null, stdout: '', stderr: '' })
  })

  it('profile one at a time', async () => {
    const codes = await resultOf<string[]>(`${PREPARE}
      const worker = start("await core.profile(() => new Promise((done) => { parentPort.once('message', done); parentPort.postMessage(1) })); parentPort.postMessage(2)")
      await once(worker, 'message')
      const codes = [await core.profile(() => 0).then(() => 'none', (e) => e.code)]
      worker.postMessage(0)
      await once(worker, 'message')
      codes.push(await core.profile(() => 0).then(() => 'none', (e) => e.code))
      await worker.terminate()
      console.log(JSON.stringify(codes))`)
    expect(codes).toEqual(['E_PROFILER', 'none'])
  })
})

describe('a process ends well', () => {
  const TENSORS = `
    import * as core from '@vllm-ops/core'
    const { torch, ones, fromTypedArray, Library } = core
    const alive = [ones([1000]), fromTypedArray(new Float32Array(8)), torch.aten.add(ones([2]), 1), core.generator(1)]
    const data = alive[0].data()
    const lib = new Library('ending', 'FRAGMENT').define('now(Tensor x) -> Tensor')
  `
  it.each([
    ['with live tensors', '', 0],
    ['by process.exit', 'process.exit(7)', 7],
    [
      'by process.exit in a kernel',
      "lib.impl('now', () => process.exit(8), 'CPU'); torch.ending.now(alive[0])",
      8,
    ],
    [
      'by process.exit in a getter of arguments',
      'torch.aten.add(alive[0], alive[0], { get alpha() { process.exit(9) } })',
      9,
    ],
    ['by process.exit in a scope', 'core.scope(() => { ones([1]); process.exit(10) })', 10],
    ['by process.exit in a profile', 'await core.profile(() => process.exit(11))', 11],
    [
      'by an exception of a kernel',
      "lib.impl('now', () => { throw new Error('mine') }, 'CPU'); torch.ending.now(alive[0])",
      1,
    ],
    [
      'with a kernel registered',
      "lib.impl('now', (x) => torch.aten.neg(x), 'CPU'); torch.ending.now(alive[0])",
      0,
    ],
    [
      'with ops in an exit handler',
      "process.on('exit', () => { if (torch.aten.sum(alive[0]).item() !== 1000) process.exitCode = 5 })",
      0,
    ],
  ])('%s', async (_, body, code) => {
    expect(await runModule(TENSORS + body)).toMatchObject({ code, signal: null })
  })
})
