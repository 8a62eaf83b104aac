// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import { BlockAllocator } from '../src/engine/block-allocator'
import { Scheduler } from '../src/engine/scheduler'
import { Sequence } from '../src/engine/sequence'
import { StopChecker } from '../src/engine/stop-checker'
import { BLOCK_SIZE } from '../src/kv-cache'
import { Random } from '../src/sampling/random'
import { resolveSamplingParams } from '../src/sampling/sampling-params'
import { Detokenizer } from '../src/tokenizer/detokenizer'

const sequence = (promptLength: number, maxTokens = 1000) =>
  new Sequence(new Array<number>(promptLength).fill(65), {
    params: resolveSamplingParams({ maxTokens, seed: 1 }, 256),
    endOfGenerationIds: [],
    maxModelLen: 4096,
    detokenizer: new Detokenizer((id) => Uint8Array.of(id)),
  })

describe('the block allocator', () => {
  it('never gives a block to two', () => {
    const random = new Random(1)
    const allocator = new BlockAllocator(50)
    const taken: number[] = []
    for (let i = 0; i < 5000; i++) {
      if (random.uniform() < 0.55) {
        const block = allocator.allocate()
        if (taken.length === 50) expect(block).toBeUndefined()
        else {
          expect(taken).not.toContain(block)
          expect(block).toBeGreaterThanOrEqual(0)
          expect(block).toBeLessThan(50)
          taken.push(block!)
        }
      } else if (taken.length > 0) {
        allocator.release(taken.splice(random.next() % taken.length, 1))
      }
      expect(allocator.numFree).toBe(50 - taken.length)
    }
  })

  it('refuses a block that nobody has', () => {
    const allocator = new BlockAllocator(2)
    expect(() => allocator.release([0])).toThrow(RangeError)
    const block = allocator.allocate()!
    allocator.release([block])
    expect(() => allocator.release([block])).toThrow(RangeError)
    expect(() => allocator.release([2])).toThrow(RangeError)
  })
})

describe('the scheduler', () => {
  const scheduler = (limits: Partial<Scheduler['limits']> = {}) =>
    new Scheduler({ numBlocks: 64, maxNumBatchedTokens: 64, maxNumSeqs: 8, ...limits })

  /** Does what the engine does with a step. */
  const step = (s: Scheduler) => {
    const batch = s.schedule()
    for (const { sequence: one, numTokens } of batch) {
      expect(one.blocks.length).toBe(Math.ceil((one.numComputed + numTokens) / BLOCK_SIZE))
      one.numComputed += numTokens
      if (one.numUncomputed === 0 && one.append({ tokenId: 66 }).finishReason) s.remove(one)
    }
    return batch.map(({ sequence: one, numTokens }) => [one, numTokens] as const)
  }

  it('computes a long prompt in pieces, then one token a step', () => {
    const s = scheduler()
    const one = sequence(150)
    s.add(one)
    const lengths = Array.from({ length: 5 }, () => step(s)[0]![1])
    expect(lengths).toEqual([64, 64, 22, 1, 1])
  })

  it('lets generating sequences go first and fills the step with prompts', () => {
    const s = scheduler()
    const [early, late] = [sequence(10), sequence(100)]
    s.add(early)
    step(s)
    s.add(late)
    expect(step(s)).toEqual([
      [early, 1],
      [late, 63],
    ])
    expect(step(s)).toEqual([
      [early, 1],
      [late, 37],
    ])
    expect(step(s)).toEqual([
      [early, 1],
      [late, 1],
    ])
  })

  it('runs no more sequences at once than it may', () => {
    const s = scheduler({ maxNumSeqs: 2 })
    const three = [sequence(4, 1), sequence(4, 1), sequence(4, 1)]
    for (const one of three) s.add(one)
    expect(step(s).map(([one]) => one)).toEqual(three.slice(0, 2))
    expect(step(s).map(([one]) => one)).toEqual(three.slice(2))
  })

  it('lets wait who does not fit, and sends back who came last', () => {
    const s = scheduler({ numBlocks: 4 })
    const [first, second, third] = [sequence(31), sequence(16), sequence(16)]
    s.add(first)
    s.add(second)
    s.add(third)
    // 2 + 1 blocks; the third would fit too.
    expect(step(s).map(([one]) => one)).toEqual([first, second, third])
    // Each needs its next block when its last one is full: the second takes the third's.
    expect(step(s).map(([one]) => one)).toEqual([first, second])
    expect(third).toMatchObject({ numComputed: 0, blocks: [] })
    // Nothing is lost: the prompt and the token that it had.
    expect(third.tokenIds.length).toBe(17)
  })

  it('keeps the books under random load, and finishes everything', () => {
    const random = new Random(9)
    const s = scheduler({ numBlocks: 20, maxNumBatchedTokens: 48 })
    const running = new Map<Sequence, number>()
    let added = 0
    for (let round = 0; added < 200 || !s.isEmpty; round++) {
      expect(round).toBeLessThan(20000)
      if (added < 200 && random.uniform() < 0.3) {
        const target = 1 + (random.next() % 60)
        const one = sequence(1 + (random.next() % 200), target)
        s.add(one)
        running.set(one, one.promptLength + target)
        added++
      }
      if (running.size > 0 && random.uniform() < 0.02) {
        const aborted = [...running.keys()][random.next() % running.size]!
        s.remove(aborted)
        s.remove(aborted)
        running.delete(aborted)
      }
      const batch = step(s)
      if (!s.isEmpty && running.size > 0) expect(batch.length).toBeGreaterThan(0)
      expect(batch.reduce((sum, [, numTokens]) => sum + numTokens, 0)).toBeLessThanOrEqual(48)
      for (const [one, length] of [...running]) {
        if (one.tokenIds.length === length) running.delete(one)
        else expect(one.tokenIds.length).toBeLessThan(length)
      }
      const owned = [...running.keys()].flatMap(({ blocks }) => blocks)
      expect(new Set(owned).size).toBe(owned.length)
      expect(s.allocator.numFree).toBe(20 - owned.length)
    }
    expect(running.size).toBe(0)
    expect(s.allocator.numFree).toBe(20)
  })
})

describe('a sequence', () => {
  it('ends at its length, at the context, at end tokens and stop tokens', () => {
    const make = (params: Parameters<typeof resolveSamplingParams>[0], maxModelLen = 100) =>
      new Sequence([65, 65], {
        params: resolveSamplingParams(params, 256),
        endOfGenerationIds: [7],
        maxModelLen,
        detokenizer: new Detokenizer((id) => Uint8Array.of(id)),
      })
    const limited = make({ maxTokens: 2 })
    expect(limited.append({ tokenId: 66 })).toEqual({ tokenId: 66, text: 'B' })
    expect(limited.append({ tokenId: 67 })).toMatchObject({ text: 'C', finishReason: 'length' })
    expect(make({}, 3).append({ tokenId: 66 }).finishReason).toBe('length')
    expect(make({}).append({ tokenId: 7 })).toMatchObject({ tokenId: 7, text: '', finishReason: 'stop' })
    expect(make({ ignoreEos: true }).append({ tokenId: 7 })).toEqual({ tokenId: 7, text: '\x07' })
    expect(make({ stopTokenIds: [66] }).append({ tokenId: 66 })).toMatchObject({
      text: 'B',
      finishReason: 'stop',
    })
  })

  it('says how fast it was', () => {
    const one = sequence(5, 3)
    one.startClock()
    one.append({ tokenId: 65 })
    one.append({ tokenId: 65 })
    const { metrics } = one.append({ tokenId: 65 })
    expect(metrics).toMatchObject({ promptTokens: 5, generatedTokens: 3 })
    expect(metrics!.prefillTokensPerSecond).toBeCloseTo(5000 / metrics!.prefillMs)
    expect(metrics!.decodeTokensPerSecond).toBeCloseTo(2000 / metrics!.decodeMs)
  })

  it('lets nothing of a stop text through, and everything else', () => {
    const one = new Sequence([65], {
      params: resolveSamplingParams({ stop: 'END' }, 256),
      endOfGenerationIds: [],
      maxModelLen: 100,
      detokenizer: new Detokenizer((id) => Uint8Array.of(id)),
    })
    const outputs = Array.from(Buffer.from('xENyEND'), (tokenId) => one.append({ tokenId }))
    expect(outputs.map(({ text }) => text)).toEqual(['x', '', '', 'ENy', '', '', ''])
    expect(outputs.at(-1)!.finishReason).toBe('stop')
  })

  it('gives out what it held back when it ends', () => {
    const one = new Sequence([65], {
      params: resolveSamplingParams({ stop: 'END', maxTokens: 3 }, 256),
      endOfGenerationIds: [],
      maxModelLen: 100,
      detokenizer: new Detokenizer((id) => Uint8Array.of(id)),
    })
    const texts = [0x45, 0x4e, 0xf0].map((tokenId) => one.append({ tokenId }).text)
    expect(texts).toEqual(['', '', 'EN\ufffd'])
  })
})

describe('a stop checker', () => {
  it('finds the first of several, wherever the text is cut', () => {
    const random = new Random(4)
    const stops = ['aab', 'ba', 'cc']
    for (let round = 0; round < 2000; round++) {
      const text = Array.from({ length: 12 }, () => 'abc'[random.next() % 3]).join('')
      const checker = new StopChecker(stops)
      let out = ''
      let stopped = false
      for (let at = 0; at < text.length && !stopped; ) {
        const size = 1 + (random.next() % 3)
        const result = checker.push(text.slice(at, at + size))
        out += result.text
        stopped = result.stopped
        at += size
      }
      if (!stopped) out += checker.end()
      const first = Math.min(...stops.map((stop) => text.indexOf(stop)).filter((index) => index >= 0))
      expect(stopped).toBe(first !== Number.POSITIVE_INFINITY)
      expect(out).toBe(stopped ? text.slice(0, out.length) : text)
      if (stopped) expect(stops.some((stop) => text.startsWith(stop, out.length))).toBe(true)
    }
  })
})
