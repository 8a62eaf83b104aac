// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { arange, empty, fromDLPack, fromTypedArray, ones, type Tensor, toDLPack, torch } from '@vllm-ops/core'
import { libtorch } from '@vllm-ops/core/internal'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { resultOf } from './child'

/** test/native/dlpack_peer.c */
interface Peer {
  make(versioned: boolean, length: number): object
  sum(external: object): number
  pointer(external: object): bigint
  deleted(): number
}

const folder = mkdtempSync(join(tmpdir(), 'vllm-ops-dlpack-'))
const built = join(folder, 'dlpack_peer.node')
let peer: Peer
const require = createRequire(import.meta.url)

beforeAll(() => {
  const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))
  const { include_dir } = require('node-api-headers') as { include_dir: string }
  execFileSync(process.env.CC ?? 'cc', [
    ...['-shared', '-fPIC', '-O1', '-Wall', '-Werror'],
    ...[include_dir, ...libtorch().include, here('../include')].flatMap((path) => ['-I', path]),
    ...['-o', built, here('native/dlpack_peer.c')],
  ])
  peer = require(built) as Peer
})
afterAll(() => rmSync(folder, { recursive: true }))

describe.each([true, false])('DLPack, versioned: %s', (versioned) => {
  it('hands a tensor out, with its strides and its memory', () => {
    const x = arange(0, 6, { dtype: 'float32' }).view([2, 3])
    const column = x.select(1, 1)
    const external = toDLPack(column, { versioned })
    expect(peer.pointer(external)).toBeGreaterThan(0n)
    column.dispose()
    x.dispose()
    expect(peer.sum(external)).toBe(5)
    expect(() => peer.sum(external)).toThrow('taken already')
    expect(() => fromDLPack(external)).toThrow('taken already')
  })

  it('takes one in, and deletes it with its last view', () => {
    const before = peer.deleted()
    const external = peer.make(versioned, 5)
    const x = fromDLPack(external)
    expect(x).toMatchObject({ dtype: 'float32', shape: [5], device: 'cpu' })
    expect(() => fromDLPack(external)).toThrow('taken already')
    const view = x.narrow(0, 3, 2)
    x.dispose()
    expect(peer.deleted()).toBe(before)
    // Not by an array of the elements, which would keep the memory.
    expect(torch.aten.sum(view).item()).toBe(7)
    view.dispose()
    expect(peer.deleted()).toBe(before + 1)
  })

  it('comes back as the same memory', () => {
    const x = ones([3])
    fromDLPack(toDLPack(x, { versioned })).indexPut_([1], 4)
    expect(x.toArray()).toEqual([1, 4, 1])
    expect(() => torch.aten.resize_(x, [100])).toThrow('not resizable')
  })
})

describe('DLPack', () => {
  it('refuses what it cannot hand out or take in', () => {
    const gone = ones([1])
    gone.dispose()
    for (const wrong of [gone, 3, null, {}])
      expect(() => toDLPack(wrong as Tensor)).toThrow(
        expect.objectContaining({ code: 'E_ARGUMENT', op: 'toDLPack' }),
      )
    expect(() => toDLPack(fromTypedArray(new Float32Array(2)))).toThrow('use clone()')
    expect(() => toDLPack(empty([1], { device: 'meta' }))).toThrow(
      expect.objectContaining({ code: 'E_TORCH' }),
    )
    for (const wrong of [3, null, {}, ones([1]), new Float32Array(2)])
      expect(() => fromDLPack(wrong as object)).toThrow(
        expect.objectContaining({ code: 'E_ARGUMENT', op: 'fromDLPack' }),
      )
  })

  it('frees what nobody took', async () => {
    const { deleted, live } = await resultOf<{ deleted: number; live: number }>(
      `import { createRequire } from 'node:module'
       import { fromDLPack, memory, ones, toDLPack } from '@vllm-ops/core'
       const peer = createRequire(import.meta.url)(${JSON.stringify(built)})
       for (let i = 0; i < 100; i++) { peer.make(i % 2 === 0, 10); const x = ones([10]); toDLPack(x); x.dispose() }
       for (let i = 0; i < 5; i++) { gc(); await new Promise((done) => setTimeout(done, 5)) }
       console.log(JSON.stringify({ deleted: peer.deleted(), live: memory.live().length }))`,
      { args: ['--expose-gc'] },
    )
    expect(deleted).toBeGreaterThan(90)
    expect(live).toBe(0)
  })
})
