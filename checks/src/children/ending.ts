// SPDX-License-Identifier: Apache-2.0
//
// Loads the package by import and by require, uses it, holds all kinds of things, and ends: as a worker or a process.
import { createRequire } from 'node:module'
import { isMainThread, parentPort, workerData } from 'node:worker_threads'
import * as core from '@vllm-ops/core'
import { taskOf } from '../child'
import type { ProcessEnd } from '../envs'

const end = isMainThread ? taskOf<{ end: ProcessEnd }>().end : (workerData as ProcessEnd)
const other = createRequire(import.meta.url)('@vllm-ops/core') as typeof core
const { aten } = core.torch

const x = core.ones([1000])
if (!(other.ones([1]) instanceof core.Tensor)) throw new Error('two copies of the package')
const held = [
  x,
  core.fromTypedArray(new Float32Array(8)),
  aten.add(x, x),
  core.generator(1),
  x.data(),
  x.share(),
]
const library = new core.Library('ending', 'FRAGMENT').define('now(Tensor x) -> Tensor')
const impl = (kernel: (x: core.Tensor) => core.Tensor) => library.impl('now', kernel, 'CPU')
const call = () => core.torch.ending?.now?.(x)
const square = core.randn([300, 300])

const ways: Record<ProcessEnd, () => unknown> = {
  returns: () => held.length,
  exits: () => process.exit(7),
  throws: () => {
    throw new Error('meant')
  },
  rejects: () => Promise.reject(new Error('meant')),
  exitsInKernel: () => {
    impl(() => process.exit(8))
    call()
  },
  exitsInGetter: () =>
    aten.add(x, x, {
      get alpha(): number {
        return process.exit(9)
      },
    }),
  terminated: () => {
    parentPort?.postMessage('ready')
    for (;;) aten.add_(x, x)
  },
  exitsWithWork: () => {
    for (let i = 0; i < 12; i++) core.callAsync(aten.mm, [square, square])
    setTimeout(() => process.exit(6), 5)
  },
  exitsInFinish: () => core.callAsync(aten.mm, [square, square]).then(() => process.exit(5)),
  exitsInExitHandler: () => {
    process.on('exit', () => {
      aten.neg(x)
      process.exitCode = 4
    })
  },
}
await ways[end]()
