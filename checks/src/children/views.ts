// SPDX-License-Identifier: Apache-2.0
//
// Ways in which JavaScript keeps memory of tensors, and tensors keep memory of JavaScript, longer than the other side. Each compares
// every element with what it must be; under AddressSanitizer a read of freed memory ends the process.
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import {
  ArgumentError,
  callAsync,
  fromBuffer,
  fromDLPack,
  fromShared,
  fromTypedArray,
  full,
  type Tensor,
  toDLPack,
  torch,
} from '@vllm-ops/core'
import { childPath, taskOf } from '../child'
import { randomFrom } from '../random'
import type { Views } from '../views'

const { count, seed } = taskOf<{ count: number; seed: number }>()
const random = randomFrom(seed)
const problems = new Set<string>()
const kept: { way: string; array: Float32Array; value: number }[] = []
/** In a runtime that copies, what is written to the array does not reach the tensor. */
const copies = process.env.VLLM_OPS_EMULATE !== undefined

function check(way: string, array: ArrayLike<number>, value: number): void {
  for (let i = 0; i < array.length; i++)
    if (array[i] !== value) problems.add(`${way}: ${array[i]} for ${value}`)
}

function checkTensor(way: string, tensor: Tensor, value: number): void {
  check(way, (tensor.toArray() as number[]).flat() as number[], value)
}

/** Looks again later, when other memory has come and gone. */
function keep(way: string, array: Float32Array, value: number): void {
  kept.push({ way, array, value })
  if (kept.length > 200) {
    const [old] = kept.splice(Math.floor(random() * kept.length), 1)
    if (old) check(`${old.way}, later`, old.array, old.value)
  }
}

function refused(way: string, use: () => unknown): void {
  try {
    use()
    problems.add(`${way}: taken`)
  } catch (error) {
    if (!(error instanceof ArgumentError)) problems.add(`${way}: ${error}`)
  }
}

const ways: Record<string, (size: number, value: number) => unknown> = {
  disposed(size, value) {
    const tensor = full([size], value)
    const array = tensor.data() as Float32Array
    tensor.dispose()
    keep('disposed', array, value)
  },
  viewOutlives(size, value) {
    const tensor = full([size, 2], value)
    const view = tensor.select(1, 1).contiguous()
    const part = tensor.narrow(0, size >> 1, size - (size >> 1))
    const array = part.data() as Float32Array
    tensor.dispose()
    part.dispose()
    keep('viewOutlives', array, value)
    checkTensor('viewOutlives', view, value)
  },
  writtenAfterDispose(size, value) {
    const tensor = full([size], value)
    const view = tensor.view([size])
    const array = tensor.data() as Float32Array
    tensor.dispose()
    array.fill(value + 1)
    keep('writtenAfterDispose', array, value + 1)
    checkTensor('writtenAfterDispose', view, copies ? value : value + 1)
  },
  transferred(size, value) {
    const tensor = full([size], value)
    const array = tensor.data() as Float32Array
    const moved = structuredClone(array, { transfer: [array.buffer as ArrayBuffer] })
    const again = tensor.data() as Float32Array
    tensor.dispose()
    keep('transferred', moved, value)
    keep('transferred, asked again', again, value)
  },
  cloned(size, value) {
    const tensor = full([size], value)
    const clone = structuredClone(tensor.data()) as Float32Array
    tensor.dispose()
    keep('cloned', clone, value)
  },
  borrowed(size, value) {
    const tensor = fromTypedArray(new Float32Array(size).fill(value))
    const view = tensor.narrow(0, 0, size)
    tensor.dispose()
    if (random() < 0.05) gc?.()
    checkTensor('borrowed', view, value)
    keep('borrowed', view.data() as Float32Array, value)
  },
  borrowedAway(size, value) {
    const array = new Float32Array(size).fill(value)
    const tensor = fromTypedArray(array)
    const view = tensor.view([size])
    structuredClone(array, { transfer: [array.buffer] })
    refused('borrowedAway', () => torch.aten.neg(tensor))
    refused('borrowedAway, view', () => view.data())
  },
  copied(size, value) {
    const bytes = new Uint8Array(4 * size + 1)
    new DataView(bytes.buffer).setFloat32(1, value, true)
    const tensor = fromBuffer(bytes, 1, [1], 'float32', { copy: true })
    structuredClone(bytes, { transfer: [bytes.buffer] })
    checkTensor('copied', tensor, value)
  },
  shared(size, value) {
    const tensor = full([size], value)
    const shared = tensor.share({ opens: 1 })
    tensor.dispose()
    const opened = fromShared(structuredClone({ ...shared }))
    keep('shared', opened.data() as Float32Array, value)
    opened.dispose()
  },
  dlpack(size, value) {
    const tensor = full([size], value)
    const external = toDLPack(tensor)
    tensor.dispose()
    const taken = fromDLPack(external)
    keep('dlpack', taken.data() as Float32Array, value)
    taken.dispose()
  },
  async inFlight(size, value) {
    const tensor = full([size], value)
    const pending = callAsync(torch.aten.neg, [tensor])
    const array = tensor.data() as Float32Array
    tensor.dispose()
    if (!copies) structuredClone(array, { transfer: [array.buffer as ArrayBuffer] })
    const result = await pending
    checkTensor('inFlight', result, -value)
    result.dispose()
  },
}

/** Arrays over memory of tensors whose thread is gone. */
async function fromWorker(value: number): Promise<void> {
  const worker = new Worker(childPath('view-worker'), { workerData: value, execArgv: [] })
  const [array] = await once(worker, 'message')
  await worker.terminate()
  keep('fromWorker', array, value)
}

let rounds = 0
for (let i = 0; i < count; i++) {
  for (const way of Object.values(ways))
    await way(1 + Math.floor(random() ** 3 * 5000), Math.floor(random() * 1000))
  if (i % 500 === 0) await fromWorker(i)
  if (random() < 0.02) gc?.()
  rounds++
}
for (const { way, array, value } of kept) check(`${way}, at the end`, array, value)
const found: Views = { rounds, problems: [...problems].slice(0, 20) }
process.stdout.write(`${JSON.stringify(found)}\n`)
