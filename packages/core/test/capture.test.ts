// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import {
  type Backend,
  canCapture,
  capture,
  cards,
  type DeviceModule,
  devices,
  full,
  ones,
  type Tensor,
  torch,
  use,
} from '@vllm-ops/core'
import { libtorch } from '@vllm-ops/core/internal'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'

const path = fileURLToPath(new URL('fixtures/device-module.cjs', import.meta.url))

/** A device module that notes what is asked of it. Its graphs compute nothing. */
class NotingModule implements DeviceModule {
  readonly deviceType = 'cpu'
  torchVersion = libtorch().version
  calls: string[] = []
  failure: Error | undefined
  culprit = ''
  #next = 0

  describeDevice() {
    return { name: 'a device', capability: '1.0', totalMemory: 1024, multiProcessorCount: 2 }
  }
  beginCapture(index: number, shareWith?: object) {
    this.calls.push(`begin ${index}${shareWith ? ` with ${JSON.stringify(shareWith)}` : ''}`)
    return { id: this.#next++ }
  }
  endCapture(graph: object) {
    this.#note('end', graph)
    if (this.failure) throw this.failure
  }
  abortCapture(graph: object) {
    this.#note('abort', graph)
    return this.culprit
  }
  replay(graph: object) {
    this.#note('replay', graph)
  }
  release(graph: object) {
    this.#note('release', graph)
  }
  #note(what: string, graph: object) {
    this.calls.push(`${what} ${JSON.stringify(graph)}`)
  }
}

const module = new NotingModule()
Reflect.set(globalThis, Symbol.for('vllm-ops.test.deviceModule'), module)

const unsupported = Object.fromEntries(
  cards.map(({ schema }) => [schema.slice(0, schema.indexOf('(')), 'none here']),
)
const backend: Backend = {
  name: 'noting',
  dispatchKey: 'XLA',
  version: '1.0.0',
  deviceModule: path,
  unsupported,
}

describe('without a device module', () => {
  it('nothing can be captured', () => {
    expect(canCapture('cpu')).toBe(false)
    expect(() => capture(() => 1)).toThrow(
      expect.objectContaining({
        code: 'E_CAPTURE',
        message: 'the work of cpu cannot be captured: no backend in use can',
      }),
    )
    expect(() => capture(() => 1, { device: 'cuda' })).toThrow(
      expect.objectContaining({ code: 'E_NO_DEVICE' }),
    )
  })

  it('a module of another torch, or none at all, is a status', () => {
    module.torchVersion = '1.2.3'
    expect(use({ ...backend, name: 'older' })).toMatchObject([
      { status: 'failed', reason: expect.stringContaining('was built for torch 1.2.3') },
    ])
    expect(use({ ...backend, name: 'absent', deviceModule: '/nowhere.node' })).toMatchObject([
      { status: 'failed', reason: expect.stringContaining('/nowhere.node does not open') },
    ])
    expect(use({ ...backend, name: 'lacking', libraries: ['/nowhere.so'] })).toMatchObject([
      { status: 'failed', reason: expect.stringContaining('/nowhere.so') },
    ])
    module.torchVersion = libtorch().version
  })
})

describe('capture', () => {
  beforeAll(() => void use(backend, { strict: true }))
  beforeEach(() => {
    module.calls = []
    module.failure = undefined
    module.culprit = ''
  })

  it('describes its devices', () => {
    expect(devices()[0]).toMatchObject({ device: 'cpu', name: 'a device', totalMemory: 1024 })
    expect(canCapture('cpu')).toBe(true)
    expect(canCapture('cpu:0')).toBe(true)
  })

  it('keeps what the function returns, and frees the rest', () => {
    let inner: Tensor | undefined
    const graph = capture(() => {
      inner = ones([2])
      return { sums: [torch.aten.add.Scalar!(inner, 1)], name: 'x' }
    })
    expect(inner?.disposed).toBe(true)
    expect(graph.device).toBe('cpu')
    expect(graph.result.sums[0]!.toArray()).toEqual([2, 2])
    graph.replay()
    graph.replay()
    const id = { id: expect.any(Number) }
    expect(module.calls.map((call) => call.replace(/\{.*/, ''))).toEqual([
      'begin 0',
      'end ',
      'replay ',
      'replay ',
    ])
    expect(JSON.parse(module.calls[1]!.slice(4))).toEqual(id)
    graph.dispose()
    graph.dispose()
    expect(graph.result.sums[0]!.disposed).toBe(true)
    expect(module.calls.filter((call) => call.startsWith('release'))).toHaveLength(1)
    expect(() => graph.replay()).toThrow(expect.objectContaining({ code: 'E_ARGUMENT', argument: 'graph' }))
  })

  it('shares the pool of another graph', () => {
    using first = capture(() => full([1], 1))
    using second = capture(() => full([1], 2), { pool: first })
    expect(second.result.item()).toBe(2)
    expect(module.calls[2]).toMatch(/^begin 0 with \{"id":\d+\}$/)
    first.dispose()
    expect(() => capture(() => 1, { pool: first })).toThrow(/a disposed graph/)
  })

  it('ends when the function throws, with that error', () => {
    let made: Tensor | undefined
    expect(() =>
      capture(() => {
        made = ones([1])
        throw new RangeError('mine')
      }),
    ).toThrow(RangeError)
    expect(made?.disposed).toBe(true)
    expect(module.calls.map((call) => call.split(' ')[0])).toEqual(['begin', 'abort'])
    expect(() => capture(async () => ones([1]))).toThrow(expect.objectContaining({ argument: 'fn' }))
    expect(module.calls.at(-1)).toMatch(/^abort/)
  })

  it('names the op that could not be captured', () => {
    module.failure = new Error('operation not permitted')
    module.culprit = 'aten::_local_scalar_dense'
    let made: Tensor | undefined
    expect(() =>
      capture(() => {
        made = ones([1])
        return made
      }),
    ).toThrow(
      expect.objectContaining({
        code: 'E_CAPTURE',
        message: 'aten::_local_scalar_dense cannot be captured: operation not permitted',
        fix: expect.stringContaining('item'),
      }),
    )
    expect(made?.disposed).toBe(true)
    expect(module.calls.map((call) => call.split(' ')[0])).toEqual(['begin', 'end', 'abort'])
    const cause = new TypeError('a consequence')
    const failing = () =>
      capture(() => {
        throw cause
      })
    expect(failing).toThrow(expect.objectContaining({ code: 'E_CAPTURE', cause }))
    module.culprit = ''
    expect(failing).toThrow(cause)
    const refuse = () => capture(() => torch.aten.reshape(ones([2]), [3, 1]))
    expect(refuse).toThrow(expect.objectContaining({ code: 'E_TORCH' }))
  })
})
