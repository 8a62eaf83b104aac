// SPDX-License-Identifier: Apache-2.0
//
// A program: the Node side of the part `call`, in a process of its own as Python's side is. Where the system runs a process's thread can
// make a microsecond of difference for as long as it lives.
import { readFileSync } from 'node:fs'
import { type OpArgument, ones, scope, synchronizeSync, use, zeros } from '@vllm-ops/core'
import cuda from '@vllm-ops/cuda'
import type { CallRequest, Row, TensorArgument } from './call-rows'
import { callOf } from './case'
import { DEVICE } from './device-time'

function isTensor(argument: Row['args'][number]): argument is TensorArgument {
  return typeof argument === 'object' && argument !== null
}

function made(argument: Row['args'][number]): OpArgument {
  if (!isTensor(argument)) return argument
  const { tensor: shape, dtype } = argument
  return (dtype === 'bfloat16' ? ones : zeros)(shape, { dtype, device: DEVICE })
}

/** Microseconds that the host is busy with one call: the least of the rounds, since what else a machine runs only ever adds. */
function leastMicroseconds({ op, args }: Row, { calls, rounds }: CallRequest): number {
  return scope(() => {
    const call = callOf(op)
    const values = args.map(made)
    const sample = () => {
      synchronizeSync(DEVICE)
      const start = process.hrtime.bigint()
      for (let i = 0; i < calls; i++) call(...values)
      return Number(process.hrtime.bigint() - start) / calls / 1000
    }
    for (let i = 0; i < 10; i++) sample()
    const samples = Array.from({ length: rounds }, sample)
    synchronizeSync(DEVICE)
    return Math.min(...samples)
  })
}

const request: CallRequest = JSON.parse(readFileSync(0, 'utf8'))
use(cuda, { strict: true })
process.stdout.write(
  JSON.stringify(Object.fromEntries(request.rows.map((row) => [row.op, leastMicroseconds(row, request)]))),
)
