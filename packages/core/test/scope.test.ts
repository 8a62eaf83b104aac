// SPDX-License-Identifier: Apache-2.0
import { setTimeout as wait } from 'node:timers/promises'
import { keep, ones, scope, type Tensor, torch, zeros } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'

const { aten } = torch

describe('scope', () => {
  it('frees what was made inside, but not what it returns and not what was there', () => {
    const before = ones([1])
    const made: Tensor[] = []
    const result = scope(() => {
      made.push(zeros([1]), aten.add(before, before))
      return { a: [ones([1])], b: new Map([['c', ones([1])]]), d: new Set([ones([1])]), before }
    })
    expect(made.map(({ disposed }) => disposed)).toEqual([true, true])
    expect([result.a[0], result.b.get('c'), ...result.d, before].map((t) => t?.disposed)).toEqual([
      false,
      false,
      false,
      false,
    ])
  })

  it('frees everything when the function throws, and what it throws comes out', () => {
    let made: Tensor | undefined
    expect(() =>
      scope(() => {
        made = ones([1])
        throw new TypeError('mine')
      }),
    ).toThrow(TypeError)
    expect(made!.disposed).toBe(true)
  })

  it('nests: what leaves an inner one belongs to the outer', () => {
    let inner: Tensor | undefined
    const result = scope(() => {
      inner = scope(() => ones([1]))
      expect(inner.disposed).toBe(false)
      return scope(() => scope(() => ones([2])))
    })
    expect(inner!.disposed).toBe(true)
    expect(result.disposed).toBe(false)
  })

  it('takes cycles, deep lists and what was disposed inside', () => {
    interface Node {
      next?: Node
      tensor?: Tensor
    }
    const result = scope(() => {
      const node: Node = { tensor: ones([1]) }
      node.next = node
      ones([1]).dispose()
      return node
    })
    expect(result.tensor!.disposed).toBe(false)
    const deep = scope(() => {
      let list: Node = { tensor: ones([1]) }
      for (let i = 0; i < 100_000; i++) list = { next: list }
      return list
    })
    let end = deep
    while (end.next) end = end.next
    expect(end.tensor!.disposed).toBe(false)
  })

  it('frees what was made when its result cannot be read', () => {
    let made: Tensor | undefined
    expect(() =>
      scope(() => {
        made = ones([1])
        return {
          get tensor(): Tensor {
            throw new RangeError('no')
          },
        }
      }),
    ).toThrow(RangeError)
    expect(made!.disposed).toBe(true)
  })

  it('follows an async function across await', async () => {
    const made: Tensor[] = []
    const result = await scope(async () => {
      made.push(ones([1]))
      await wait(1)
      made.push(
        ones([1]),
        scope(() => ones([1])),
      )
      expect(made.map(({ disposed }) => disposed)).toEqual([false, false, false])
      return ones([1])
    })
    expect(made.map(({ disposed }) => disposed)).toEqual([true, true, true])
    expect(result.disposed).toBe(false)
  })

  it('keeps async functions that run at once apart', async () => {
    const run = (ms: number) =>
      scope(async () => {
        const mine: Tensor[] = []
        for (let i = 0; i < 3; i++) {
          mine.push(ones([1]))
          await wait(ms)
          expect(mine.some(({ disposed }) => disposed)).toBe(false)
        }
        return { mine: [mine[0]!], rest: mine.slice(1).map((t) => new WeakRef(t)) }
      })
    for (const { mine, rest } of await Promise.all([run(1), run(7), run(3)])) {
      expect(mine[0]!.disposed).toBe(false)
      expect(rest.every((ref) => ref.deref()?.disposed !== false)).toBe(true)
    }
  })

  it('inside a synchronous one lets go of it', async () => {
    let pending: Promise<Tensor> | undefined
    let inside: Tensor | undefined
    scope(() => {
      inside = ones([1])
      pending = scope(async (): Promise<Tensor> => {
        const early = ones([1])
        await wait(1)
        return aten.add(early, 1)
      })
    })
    expect(inside!.disposed).toBe(true)
    expect((await pending!).toArray()).toEqual([2])
    // Nothing stays open behind it.
    const after = ones([1])
    scope(() => undefined)
    await wait(1)
    expect(after.disposed).toBe(false)
  })

  it('frees when an async function rejects', async () => {
    let made: Tensor | undefined
    const failing = scope(async () => {
      made = ones([1])
      await wait(1)
      throw new TypeError('mine')
    })
    await expect(failing).rejects.toThrow(TypeError)
    expect(made!.disposed).toBe(true)
  })

  it('leaves to its outer scope what an async function does after it', async () => {
    let late: Promise<Tensor> | undefined
    await scope(async () => {
      const forgotten = async () => {
        await wait(5)
        return ones([1])
      }
      late = forgotten()
    })
    expect((await late!).disposed).toBe(false)
  })

  it('of a plain function that returns a promise keeps what that made until it settles', async () => {
    let early: Tensor | undefined
    const result = scope(() => {
      early = ones([1])
      return Promise.resolve(early).then((t) => {
        expect(t.disposed).toBe(false)
        return 1
      })
    })
    expect(await result).toBe(1)
    expect(early!.disposed).toBe(true)
  })

  it('leaves alone what is kept, from however deep', () => {
    let kept: Tensor | undefined
    scope(() => {
      const outer = ones([1])
      scope(() => {
        kept = keep(outer)
      })
    })
    expect(kept!.disposed).toBe(false)
  })
})
