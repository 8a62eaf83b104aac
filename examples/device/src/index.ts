// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import {
  type AnyCard,
  type Backend,
  cards,
  checkArguments,
  definitionOf,
  Library,
  type OpArgument,
  type Tensor,
  torch,
} from '@vllm-ops/core'

const { aten } = torch

/** Checked like every kernel's arguments; then aten ops, each of which runs where the device's library sends it. */
function silu_and_mul(out: Tensor, input: Tensor): null {
  checkArguments(cardOf('silu_and_mul'), [out, input])
  const half = out.shape.at(-1) ?? 0
  const wide = input.to('float64')
  const gate = wide.narrow(-1, 0, half)
  const up = wide.narrow(-1, half, half)
  out.copy_(aten.mul(aten.silu(gate), up))
  return null
}

/** The kernels of this device. The definition of an op is one that runs everywhere: a start, until there is a faster one. */
const kernels: Readonly<Record<string, (...args: never[]) => OpArgument>> = {
  silu_and_mul,
  rms_norm: definitionOf(cardOf('rms_norm')),
  rotary_embedding: definitionOf(cardOf('rotary_embedding')),
}

function nameOf({ schema }: AnyCard): string {
  return schema.slice(0, schema.indexOf('('))
}

function cardOf(name: string): AnyCard {
  const card = cards.find((candidate) => nameOf(candidate) === name)
  if (!card) throw new RangeError(`no op ${name}`)
  return card
}

const missing = cards.map(nameOf).filter((name) => !(name in kernels))

/** Kept for the life of the process: the dispatcher calls its kernels. */
let library: Library | undefined

/** A device whose memory is the host's, named `example`, with kernels for three ops. */
const device: Backend = {
  name: 'example',
  dispatchKey: 'PrivateUse1',
  version: '0.0.0',
  libraries: [fileURLToPath(new URL('../build/Release/example_device.so', import.meta.url))],
  unsupported: Object.fromEntries(missing.map((name) => [name, 'the example stops at three'])),
  register() {
    if (library) return
    library = new Library('vllm_ops', 'IMPL')
    for (const [name, kernel] of Object.entries(kernels)) library.impl(name, kernel, 'PrivateUse1')
  },
}
export default device
