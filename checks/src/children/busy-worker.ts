// SPDX-License-Identifier: Apache-2.0
//
// A worker that does one kind of thing without end.
import { parentPort, workerData } from 'node:worker_threads'
import {
  callAsync,
  empty,
  fromShared,
  fromTypedArray,
  Library,
  mapFile,
  ones,
  profile,
  randn,
  scope,
  type Tensor,
  torch,
} from '@vllm-ops/core'
import type { busyBodies } from '../terminate'

const { aten } = torch
const square = randn([200, 200])
const one = ones([1])

function kernel(name: string, body: (x: Tensor) => Tensor): () => unknown {
  const library = new Library('busy', 'FRAGMENT').define(`${name}(Tensor x) -> Tensor`)
  library.impl(name, body, 'CPU')
  return () => torch.busy?.[name]?.(one)
}

/** Swallows what is meant to be thrown. */
function failing(call: () => unknown): void {
  try {
    call()
  } catch {}
}

const prepare: Record<(typeof busyBodies)[number], () => () => unknown> = {
  op: () => () => aten.mm(square, square).dispose(),
  smallOps: () => () => aten.add_(one, one),
  results: () => () => aten.add(one, one),
  errors: () => () => failing(() => aten.neg(1)),
  addonErrors: () => () => failing(() => mapFile('/none')),
  kernel: () => kernel('twice', (x) => aten.add(x, x)),
  throwingKernel: () => {
    const call = kernel('never', () => {
      throw new Error('no')
    })
    return () => failing(call)
  },
  data: () => () => {
    empty([100]).data()[0] = 1
  },
  borrowed: () => () => fromTypedArray(new Float32Array(50)),
  scope: () => () =>
    scope(async () => {
      ones([1])
      await null
      ones([2])
    }),
  asyncCalls: () => async () => {
    const results = await Promise.all([1, 2, 3, 4, 5, 6].map(() => callAsync(aten.mm, [square, square])))
    for (const result of results) result.dispose()
  },
  asyncErrors: () => async () => {
    await callAsync(aten.mm, [square, one]).catch(() => {})
  },
  share: () => () => fromShared(ones([10]).share({ opens: 1 })),
  // Of all threads, whatever they are at.
  profile: () => () => profile(() => aten.neg(one)),
}

const body = prepare[workerData as (typeof busyBodies)[number]]()
await body()
parentPort?.postMessage('started')
for (;;) {
  const result = body()
  if (result instanceof Promise) await result
}
