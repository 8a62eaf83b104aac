// SPDX-License-Identifier: Apache-2.0
import { type Backend, backends, cards, Library, use } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'

const names = cards.map(({ schema }) => schema.slice(0, schema.indexOf('(')))
/** Reasons for the lack of every op but those named. */
const lacking = (...there: string[]) =>
  Object.fromEntries(names.filter((name) => !there.includes(name)).map((name) => [name, 'not yet']))

/** A backend of kernels in TypeScript for a key that nobody else has kernels for. */
function scripted(name: string, dispatchKey: string, there: string[]): Backend & { registered: number } {
  const backend = {
    name,
    dispatchKey,
    version: '1.2.3',
    unsupported: lacking(...there, 'silu_and_mul'),
    registered: 0,
    register() {
      backend.registered++
      new Library('vllm_ops', 'IMPL').impl('silu_and_mul', () => undefined, dispatchKey)
    },
  }
  return backend
}

describe('use', () => {
  it('registers a backend once, and answers the same ever after', () => {
    const backend = scripted('scripted', 'XLA', [])
    expect(use(backend)).toEqual([{ name: 'scripted', status: 'ready' }])
    expect(use(backend, backend)).toEqual([
      { name: 'scripted', status: 'ready' },
      { name: 'scripted', status: 'ready' },
    ])
    expect(backend.registered).toBe(1)
    expect(backends()).toContainEqual({ name: 'scripted', status: 'ready' })
    expect(() => use({ ...backend, version: '2.0.0' })).toThrow(
      expect.objectContaining({
        code: 'E_BACKEND_CONFLICT',
        message: expect.stringContaining('2.0.0'),
        fix: expect.stringContaining('npm'),
      }),
    )
  })

  it('says what a machine lacks, as data or with strict as an error', () => {
    const absent: Backend = {
      name: 'absent',
      dispatchKey: 'CUDA',
      version: '1.0.0',
      probe: () => ({ available: false, reason: 'no NVIDIA driver', fix: 'Install one' }),
    }
    const status = { name: 'absent', status: 'unavailable', reason: 'no NVIDIA driver', fix: 'Install one' }
    expect(use(absent)).toEqual([status])
    expect(() => use(absent, { strict: true })).toThrow(
      expect.objectContaining({
        code: 'E_BACKEND_UNAVAILABLE',
        message: 'backend absent: no NVIDIA driver',
        fix: 'Install one',
      }),
    )
  })

  it('reports every reason, with the code of its own', () => {
    const broken: Backend = { name: 'broken', dispatchKey: 'CPU', version: '1.0.0', library: '/no/such.so' }
    const throwing: Backend = {
      ...broken,
      name: 'throwing',
      library: undefined as never,
      probe: () => {
        throw new Error('boom')
      },
    }
    const statuses = use(broken, throwing)
    expect(statuses).toMatchObject([
      {
        name: 'broken',
        status: 'failed',
        library: '/no/such.so',
        reason: expect.stringContaining('cannot load /no/such.so'),
      },
      { name: 'throwing', status: 'failed', reason: 'boom' },
    ])
    expect(() => use(broken, throwing, { strict: true })).toThrow(
      expect.objectContaining({
        code: 'E_BACKEND_UNAVAILABLE',
        message: expect.stringMatching(/broken: .*; backend throwing: boom/),
      }),
    )
  })

  it('wants a kernel for every op that is not excused', () => {
    const [status] = use(scripted('forgetful', 'HPU', ['rms_norm']))
    expect(status).toMatchObject({
      status: 'failed',
      reason: '@vllm-ops/forgetful 1.2.3 has no HPU kernel for rms_norm',
    })
  })

  it('takes backends only', () => {
    for (const value of [null, undefined, 'cpu', { default: { name: 'cpu' } }])
      expect(() => use(value as never)).toThrow(expect.objectContaining({ code: 'E_ARGUMENT', op: 'use' }))
    expect(use()).toEqual([])
  })
})
