// SPDX-License-Identifier: Apache-2.0
import './backend'
import { describe, expect, it } from 'vitest'
import { LLM, ModelFormatError } from '../src'
import { Random } from '../src/sampling/random'
import { withFile, writeGguf } from './gguf-writer'
import { tinyModel } from './tiny-model'

const good = writeGguf(tinyModel())
const dataStart = good.parts.find(({ name }) => name.startsWith('data of'))!.offset

/** Loads a model and runs it for two tokens. The only error it may end with is E_MODEL_FORMAT. */
async function attempt(bytes: Uint8Array): Promise<'ran' | string> {
  return withFile(bytes, async (path) => {
    try {
      const llm = await LLM.load(path, { dtype: 'float32' })
      try {
        await llm.complete([5, 6, 7], { maxTokens: 2, ignoreEos: true })
        return 'ran'
      } finally {
        llm.dispose()
      }
    } catch (error) {
      if (!(error instanceof ModelFormatError)) throw error
      expect(error.message).toContain(path)
      return error.message
    }
  })
}

describe('a damaged model', () => {
  it('runs while it is whole', async () => {
    expect(await attempt(good.bytes)).toBe('ran')
  })

  it('is refused when it is cut off at any part', async () => {
    for (const { name, offset } of good.parts) {
      for (const length of [offset, offset + 3]) {
        expect(await attempt(good.bytes.subarray(0, length)), `${name} + ${length - offset}`).not.toBe('ran')
      }
    }
  })

  it('never crashes or hangs, whichever bits of its header are flipped', async () => {
    const random = new Random(11)
    const outcomes = { ran: 0, refused: 0 }
    for (let round = 0; round < 400; round++) {
      const bytes = Buffer.from(good.bytes)
      for (let flips = 1 + (random.next() % 3); flips > 0; flips--) {
        const at = random.next() % dataStart
        bytes[at]! ^= 1 << (random.next() % 8)
      }
      outcomes[(await attempt(bytes)) === 'ran' ? 'ran' : 'refused']++
    }
    // Most of the header is vocabulary, where a flip makes another valid file.
    expect(outcomes.ran).toBeGreaterThan(20)
    expect(outcomes.refused).toBeGreaterThan(20)
  })

  it('never crashes or hangs, whatever numbers stand where numbers are', async () => {
    const random = new Random(12)
    const values = [
      0n,
      1n,
      2n,
      255n,
      65535n,
      2n ** 31n - 1n,
      2n ** 31n,
      2n ** 32n - 1n,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 1n,
    ]
    for (let round = 0; round < 300; round++) {
      const bytes = Buffer.from(good.bytes)
      // Where a part begins there is a length, a type, a rank or a name.
      const { offset } = good.parts[random.next() % good.parts.length]!
      const at = Math.min(offset + 4 * (random.next() % 8), bytes.length - 8)
      bytes.writeBigUInt64LE(values[random.next() % values.length]!, at)
      await attempt(bytes)
    }
  })

  it('runs on weights that are anything', async () => {
    const random = new Random(13)
    for (let round = 0; round < 20; round++) {
      const bytes = Buffer.from(good.bytes)
      for (let at = dataStart; at < bytes.length; at++) bytes[at] = random.next() & 0xff
      expect(await attempt(bytes)).toBe('ran')
    }
  })
})

describe('a model whose parts do not belong together', () => {
  const spec = tinyModel()
  const withTensors = (change: (name: string) => Partial<(typeof spec.tensors & {})[number]> | undefined) =>
    writeGguf({
      ...spec,
      tensors: spec.tensors!.flatMap((t) => (change(t.name) ? [{ ...t, ...change(t.name) }] : [])),
    }).bytes
  const withExtra = (name: string) =>
    writeGguf({
      ...spec,
      tensors: [...spec.tensors!, { name, shape: [8], typeId: 0, data: new Uint8Array(32) }],
    }).bytes
  const withKeys = (metadata: Partial<typeof spec.metadata>) =>
    writeGguf({ ...spec, metadata: { ...spec.metadata, ...metadata } as typeof spec.metadata }).bytes
  const uint32 = (value: number) => ({ type: 'uint32', value }) as const

  it.each<[string, () => Uint8Array, RegExp]>([
    [
      'a missing tensor',
      () => withTensors((name) => (name === 'blk.1.ffn_up.weight' ? undefined : {})),
      /tensor "blk.1.ffn_up.weight": it is missing/,
    ],
    [
      'a tensor too many',
      () => withExtra('rope_freqs.weight'),
      /tensor "rope_freqs.weight": .*not supported/,
    ],
    [
      'a missing norm',
      () => withTensors((name) => (name === 'output_norm.weight' ? undefined : {})),
      /tensor "output_norm.weight": it is missing/,
    ],
    [
      'a tensor of another shape',
      () => withTensors((name) => (name === 'blk.0.attn_k.weight' ? { shape: [64, 32] } : {})),
      /"blk.0.attn_k.weight": expected shape \[32, 64\], received \[64, 32\]/,
    ],
    [
      'more layers than there are',
      () => withKeys({ 'llama.block_count': uint32(3) }),
      /tensor "blk.2.attn_norm.weight": it is missing/,
    ],
    ['another width', () => withKeys({ 'llama.embedding_length': uint32(32) }), /expected shape/],
    [
      'heads that do not divide',
      () => withKeys({ 'llama.attention.head_count_kv': uint32(3) }),
      /3 does not divide the 4 query heads/,
    ],
    [
      'no heads',
      () => withKeys({ 'llama.attention.head_count': uint32(0) }),
      /"llama.attention.head_count".*received number 0/,
    ],
    [
      'an odd rotation',
      () => withKeys({ 'llama.rope.dimension_count': uint32(15) }),
      /"llama.rope.dimension_count"/,
    ],
    [
      'a rotation beyond the head',
      () => withKeys({ 'llama.rope.dimension_count': uint32(18) }),
      /"llama.rope.dimension_count"/,
    ],
    [
      'another architecture',
      () => withKeys({ 'general.architecture': { type: 'string', value: 'mamba' } }),
      /expected "llama", received "mamba"/,
    ],
    [
      'scaled rotation',
      () => withKeys({ 'llama.rope.scaling.type': { type: 'string', value: 'yarn' } }),
      /"llama.rope.scaling.type".*"yarn" is not supported/,
    ],
    ['experts', () => withKeys({ 'llama.expert_count': uint32(8) }), /mixture-of-experts/],
    [
      'a vocabulary larger than the embedding',
      () =>
        withTensors((name) =>
          name === 'token_embd.weight' ? { shape: [128, 64], data: new Uint8Array(128 * 68) } : {},
        ),
      /266 tokens, the embedding only 128/,
    ],
    [
      'a type that has no kernel',
      () =>
        withTensors((name) =>
          name === 'blk.0.attn_q.weight'
            ? { typeId: 16, shape: [16, 256], data: new Uint8Array(16 * 66) }
            : {},
        ),
      /"blk.0.attn_q.weight"/,
    ],
  ])('with %s is refused', async (_, make, message) => {
    expect(await attempt(make())).toMatch(message)
  })
})
