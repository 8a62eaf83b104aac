// SPDX-License-Identifier: Apache-2.0
import {
  ArgumentError,
  fromShared,
  fromTypedArray,
  ones,
  type SharedTensorMessage,
  torch,
  zeros,
} from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { describe, expect, it } from 'vitest'
import { resultOf } from './child'

const PREPARE = `
  import { once } from 'node:events'
  import { Worker } from 'node:worker_threads'
  import { fromShared, full, ones, torch, zeros } from '@vllm-ops/core'
  import { native } from '@vllm-ops/core/internal'
  const start = (body, workerData) => new Worker(
    \`const { parentPort, workerData } = require('node:worker_threads')
    const { fromShared, full, torch } = require('@vllm-ops/core')
    \${body}\`, { eval: true, execArgv: [], workerData })
`

describe('a shared tensor', () => {
  it('is a message, and opens as the same memory', () => {
    const x = zeros([2, 3], { dtype: 'int32' })
    using shared = x.transpose(0, 1).share()
    const message = structuredClone({ shared }).shared
    expect(message).toEqual({ token: shared.token, dtype: 'int32', device: 'cpu', shape: [3, 2] })
    const y = fromShared(message)
    expect(y).toMatchObject({ dtype: 'int32', shape: [3, 2], strides: [1, 3] })
    y.indexPut_([2, 0], 7)
    expect(x.toArray()).toEqual([
      [0, 0, 7],
      [0, 0, 0],
    ])
    // Sizes are each one's own; memory stays where it is.
    torch.aten.unsqueeze_!(y, 0)
    expect(x.shape).toEqual([2, 3])
    expect(() => torch.aten.resize_!(x, [100])).toThrow('not resizable')
  })

  it('opens as long as its handle allows', () => {
    const before = native().sharedTensors()
    const x = ones([1])
    const twice = x.share({ opens: 2 })
    x.dispose()
    expect(fromShared(twice).item()).toBe(1)
    expect(fromShared(twice).item()).toBe(1)
    expect(() => fromShared(twice)).toThrow(expect.objectContaining({ code: 'E_NOT_SHARED' }))
    const open = ones([1]).share()
    const kept = fromShared(open)
    open.dispose()
    open.dispose()
    expect(() => fromShared(open)).toThrow(expect.objectContaining({ code: 'E_NOT_SHARED' }))
    expect(kept.item()).toBe(1)
    expect(native().sharedTensors()).toBe(before)
  })

  it('is refused where it cannot be', () => {
    expect(() => fromTypedArray(new Float32Array(2)).share()).toThrow('use clone()')
    const gone = ones([1])
    gone.dispose()
    expect(() => gone.share()).toThrow('a disposed tensor')
    for (const opens of [-1, 1.5, '2'])
      expect(() => ones([1]).share({ opens: opens as 1 })).toThrow(ArgumentError)
    for (const wrong of [null, 3, {}, { token: 3 }, ones([1])])
      expect(() => fromShared(wrong as never as SharedTensorMessage)).toThrow(ArgumentError)
    const [process = ''] = ones([1]).share({ opens: 1 }).token.split('.')
    for (const token of [
      '',
      '.',
      'x.1',
      '0.1',
      `${process}.`,
      `${process}.0`,
      `${process}.fffffffffffffff`,
      `${process}.1 `,
    ])
      expect(() => fromShared({ token, dtype: 'int8', device: 'cpu', shape: [] })).toThrow(
        'no tensor is shared',
      )
  })

  it('goes to workers and back, without a copy', async () => {
    const result = await resultOf<number[]>(`${PREPARE}
      const x = zeros([4])
      const workers = [0, 1, 2, 3].map((i) => start(\`
        fromShared(workerData.x).indexPut_([workerData.i], workerData.i + 1)
        parentPort.postMessage(full([3], workerData.i).share({ opens: 1 }))\`, { i, x: x.share() }))
      const answers = await Promise.all(workers.map(async (w) => (await once(w, 'message'))[0]))
      await Promise.all(workers.map((w) => w.terminate()))
      // What was sent outlives the thread that sent it.
      const sums = answers.map((answer) => torch.aten.sum(fromShared(answer)).item())
      console.log(JSON.stringify([...x.toArray(), ...sums]))`)
    expect(result).toEqual([1, 2, 3, 4, 0, 3, 6, 9])
  })

  it('that was not sent to anybody goes with its thread', async () => {
    const result = await resultOf<unknown[]>(`${PREPARE}
      const worker = start("parentPort.postMessage(full([3], 1).share()); setInterval(() => {}, 1000)")
      const [shared] = await once(worker, 'message')
      const kept = fromShared(shared)
      await worker.terminate()
      let code
      try { fromShared(shared) } catch (error) { code = error.code }
      console.log(JSON.stringify([native().sharedTensors(), code, torch.aten.sum(kept).item()]))`)
    expect(result).toEqual([0, 'E_NOT_SHARED', 3])
  })
})
