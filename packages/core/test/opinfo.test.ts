// SPDX-License-Identifier: Apache-2.0
//
// Calls that PyTorch's own operator tests make, recorded in Python with their results (fixtures/opinfo/record.py), made again from here.
// VLLM_OPS_OPINFO names a larger recording.
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { scope } from '@vllm-ops/core'
import { libtorch } from '@vllm-ops/core/internal'
import { describe, expect, it } from 'vitest'
import { type OpRecord, replay } from './opinfo-replay'

interface Header {
  readonly torch: string
  /** Overloads of aten without a record, by the reason. */
  readonly leftOut: Readonly<Record<string, readonly string[]>>
}

const path =
  process.env.VLLM_OPS_OPINFO ?? fileURLToPath(new URL('fixtures/opinfo/records.jsonl.gz', import.meta.url))
const [head = '', ...lines] = gunzipSync(readFileSync(path)).toString().trimEnd().split('\n')
const header: Header = JSON.parse(head)
const byOp = new Map<string, OpRecord[]>()
for (const line of lines) {
  const record: OpRecord = JSON.parse(line)
  byOp.set(record.op, [...(byOp.get(record.op) ?? []), record])
}
const release = (version: string) => version.split('.').slice(0, 2).join('.')

// What an op gives belongs to a release of torch: other ones have other kernels.
describe.runIf(release(libtorch().version) === release(header.torch))('the calls of OpInfo', () => {
  it('reach a thousand overloads, and every other one has its reason', () => {
    expect(byOp.size).toBeGreaterThanOrEqual(1000)
    expect(
      Object.values(header.leftOut)
        .flat()
        .filter((name) => byOp.has(name)),
    ).toEqual([])
  })

  it.each([...byOp])('of %s give what they give in Python', (_, records) => {
    for (const record of records) scope(() => replay(record, 'overload'))
  })

  it.each([...byOp].filter(([op, records]) => records.some((record) => packetIs(record, op))))(
    'of %s come to it by the packet too',
    (op, records) => {
      for (const record of records) if (packetIs(record, op)) scope(() => replay(record, 'packet'))
    },
  )
})

function packetIs({ packet }: OpRecord, op: string): boolean {
  return packet === (op.split('.')[1] ?? 'default')
}
