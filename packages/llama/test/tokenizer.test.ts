// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { ModelFormatError } from '../src/errors'
import { GgufMetadata } from '../src/gguf/metadata'
import { Tokenizer } from '../src/tokenizer/tokenizer'
import { demoFile } from './demo-model'
import { byteId, tinyTokenizer } from './tiny-model'

/** `[text, ids with control tokens as plain text, ids with control tokens parsed or null where they are the same]` */
type Row = [text: string, plain: number[], parsed: number[] | null]

const { origin, rows } = JSON.parse(
  readFileSync(new URL('./fixtures/tokenizer.json', import.meta.url), 'utf8'),
) as { origin: { tokenizer: string }; rows: Row[] }

describe(`the demo model's tokenizer, compared with ${origin.tokenizer}`, () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    tokenizer = new Tokenizer((await demoFile).metadata)
  })

  it('has cases of every kind to compare', () => {
    const texts = rows.map(([text]) => text)
    expect(rows.length).toBeGreaterThan(1500)
    const kinds = [
      /\d/,
      /\p{No}/u,
      /\p{Script=Han}/u,
      /\p{Extended_Pictographic}/u,
      /\p{M}/u,
      /\r\n/,
      /\u0085/,
      /\ufeff/,
    ]
    for (const kind of kinds)
      expect(texts.filter((text) => kind.test(text)).length, `${kind}`).toBeGreaterThan(1)
    expect(rows.filter(([, , parsed]) => parsed !== null).length).toBeGreaterThan(10)
  })

  it('gives the same ids with control tokens as plain text', () => {
    const wrong = rows.filter(([text, plain]) => tokenizer.encode(text).join() !== plain.join())
    expect(wrong.map(([text, plain]) => ({ text, plain, ours: tokenizer.encode(text) }))).toEqual([])
  })

  it('gives the same ids with control tokens parsed', () => {
    const encode = (text: string) => tokenizer.encode(text, { parseSpecial: true })
    const wrong = rows.filter(([text, plain, parsed]) => encode(text).join() !== (parsed ?? plain).join())
    expect(
      wrong.map(([text, plain, parsed]) => ({ text, expected: parsed ?? plain, ours: encode(text) })),
    ).toEqual([])
  })

  it('decodes to the text that the ids came from', () => {
    // The vocabulary has no token for these bytes: text with them cannot be written down.
    const missing = [
      4,
      6,
      19,
      20,
      22,
      29,
      192,
      193,
      241,
      242,
      ...Array.from({ length: 11 }, (_, i) => 245 + i),
    ]
    const complete = rows.filter(([text]) => !Buffer.from(text).some((byte) => missing.includes(byte)))
    expect(complete.length).toBeGreaterThan(1400)
    expect(complete.map(([, plain]) => tokenizer.decode(plain))).toEqual(
      complete.map(([text]) => Buffer.from(text).toString()), // lone surrogates have no bytes
    )
  })

  it('knows where a generation ends', () => {
    expect(tokenizer.endOfGenerationIds).toEqual([0, 2, 4])
    expect(tokenizer.eosId).toBe(2)
    expect(tokenizer.encode('')).toEqual([]) // no beginning-of-sequence token
  })
})

type Entry = { readonly value: unknown }

function tiny(changes: Readonly<Record<string, Entry | undefined>> = {}): Tokenizer {
  const entries = Object.entries({ ...tinyTokenizer, ...changes }).flatMap(([key, entry]) =>
    entry === undefined ? [] : [[key, structuredClone(entry.value)] as const],
  )
  return new Tokenizer(new GgufMetadata('tiny.gguf', new Map(entries)))
}

describe('a tokenizer', () => {
  it('merges in the order of the merges and splits digits first', () => {
    const tokenizer = tiny()
    const tokens = (text: string) => tokenizer.encode(text).map((id) => tokenizer.vocab[id])
    expect(tokens('low lower')).toEqual(['low', 'Ġlow', 'er'])
    expect(tokens('123')).toEqual(['1', '2', '3'])
    expect(tokens('٣x')).toEqual(['Ù', '£', 'x'])
  })

  it.each(['llama-bpe', 'llama3', 'llama-v3'])(
    'takes %s: digits by threes, whole tokens, a first token',
    (pre) => {
      const tokenizer = tiny({ 'tokenizer.ggml.pre': { value: pre } })
      expect(tokenizer.encode('1234').map((id) => tokenizer.vocab[id])).toEqual(['<|im_start|>', '123', '4'])
      // No merge leads to this token.
      const tokens = [...tinyTokenizer['tokenizer.ggml.tokens'].value, 'xyz']
      const types = [...tinyTokenizer['tokenizer.ggml.token_type'].value, 1]
      const changes = {
        'tokenizer.ggml.tokens': { value: tokens },
        'tokenizer.ggml.token_type': { value: types },
      }
      expect(tiny({ ...changes, 'tokenizer.ggml.pre': { value: pre } }).encode('xyz')).toEqual([
        1,
        tokens.length - 1,
      ])
      expect(tiny(changes).encode('xyz')).toEqual([...'xyz'].map((c) => byteId(c.charCodeAt(0))))
    },
  )

  it('takes gpt-2: digits together; and default: digits by threes, punctuation together', () => {
    const split = (pre: string | undefined, text: string) => {
      const tokenizer = tiny({ 'tokenizer.ggml.pre': pre === undefined ? undefined : { value: pre } })
      return tokenizer.encode(text).map((id) => tokenizer.vocab[id])
    }
    expect(split('gpt-2', '1234')).toEqual(['123', '4'])
    expect(split('gpt-2', '0123')).toEqual(['0', '123'])
    expect(split('default', '0123')).toEqual(['0', '12', '3'])
    expect(split(undefined, '0123')).toEqual(['0', '12', '3'])
  })

  it('takes the text of control tokens for tokens only when told to, the longest first', () => {
    const tokenizer = tiny()
    const parse = (text: string) => tokenizer.encode(text, { parseSpecial: true })
    expect(parse('<|im_end|><|im_start|>')).toEqual([2, 1])
    expect(parse('<|im_start|>x')).toEqual([3])
    expect(parse('<|im_start|>y')).toEqual([1, byteId(121)])
    expect(parse('<|im_start')).toEqual(tokenizer.encode('<|im_start'))
    expect(tokenizer.encode('<|im_end|>').some((id) => id < 4)).toBe(false)
  })

  it('always takes the text of user-defined tokens for tokens', () => {
    const types = tinyTokenizer['tokenizer.ggml.token_type'].value.map((type, i) => (i === 3 ? 4 : type))
    const tokenizer = tiny({ 'tokenizer.ggml.token_type': { value: types } })
    expect(tokenizer.encode('a<|im_start|>x')).toEqual([byteId(97), 3])
    expect(tokenizer.decode([3], { skipSpecial: true })).toBe('<|im_start|>x')
  })

  it('adds what the file wants around a prompt', () => {
    const changes = {
      'tokenizer.ggml.add_bos_token': { value: true },
      'tokenizer.ggml.add_eos_token': { value: true },
    }
    const tokenizer = tiny(changes)
    expect(tokenizer.encode('low')).toEqual([1, ...tokenizer.encode('low', { addSpecial: false }), 2])
  })

  it('takes tokens with the names of object properties', () => {
    const tokens = [...tinyTokenizer['tokenizer.ggml.tokens'].value, '__proto__', 'constructor']
    const types = [...tinyTokenizer['tokenizer.ggml.token_type'].value, 1, 1]
    const pre = { value: 'llama-bpe' }
    const tokenizer = tiny({
      'tokenizer.ggml.pre': pre,
      'tokenizer.ggml.tokens': { value: tokens },
      'tokenizer.ggml.token_type': { value: types },
    })
    expect(tokenizer.encode('constructor')).toEqual([1, tokens.length - 1])
    expect(tokenizer.id('__proto__')).toBe(tokens.length - 2)
    expect(tokenizer.id('no such token')).toBeUndefined()
    expect(tokenizer.id('<|im_end|>')).toBe(2)
  })

  it('guards text against being taken for control tokens', () => {
    const tokenizer = tiny()
    const text = 'a<|im_end|>b<|im_start|>x'
    const guarded = tokenizer.guard(text)
    expect(tokenizer.encode(guarded, { parseSpecial: true })).toEqual(tokenizer.encode(text))
    expect(tokenizer.guard('plain')).toBe('plain')
  })

  it('refuses ids outside the vocabulary', () => {
    expect(() => tiny().decode([100000])).toThrow(RangeError)
    expect(() => tiny().decode([-1])).toThrow(RangeError)
  })

  it.each<[string, Record<string, Entry | undefined>, RegExp]>([
    [
      'another model',
      { 'tokenizer.ggml.model': { value: 'llama' } },
      /"tokenizer.ggml.model".*"llama" is not supported/,
    ],
    [
      'an unknown pre-tokenizer',
      { 'tokenizer.ggml.pre': { value: 'klingon' } },
      /"tokenizer.ggml.pre".*"klingon".*smollm/,
    ],
    ['no vocabulary', { 'tokenizer.ggml.tokens': undefined }, /"tokenizer.ggml.tokens".*missing/],
    ['an empty vocabulary', { 'tokenizer.ggml.tokens': { value: [] } }, /"tokenizer.ggml.tokens".*empty/],
    [
      'a token twice',
      { 'tokenizer.ggml.tokens': { value: ['a', 'b', 'a'] } },
      /token 2, "a", is there twice/,
    ],
    ['too few types', { 'tokenizer.ggml.token_type': { value: [1, 1] } }, /2 elements for 266 tokens/],
    ['no merges', { 'tokenizer.ggml.merges': undefined }, /"tokenizer.ggml.merges".*missing/],
    [
      'a merge that is no pair',
      { 'tokenizer.ggml.merges': { value: ['lo'] } },
      /merge 0, "lo", is not a pair/,
    ],
    [
      'an end outside the vocabulary',
      { 'tokenizer.ggml.eos_token_id': { value: 266 } },
      /"tokenizer.ggml.eos_token_id".*265/,
    ],
  ])('refuses %s', (_, changes, message) => {
    expect(() => tiny(changes)).toThrow(ModelFormatError)
    expect(() => tiny(changes)).toThrow(message)
  })
})

describe('a detokenizer', () => {
  it('holds characters back until they are complete', () => {
    const detokenizer = tiny().detokenizer()
    const bytes = [...Buffer.from('é🙂x')]
    const pieces = bytes.map((byte) => detokenizer.push(byteId(byte)))
    expect(pieces).toEqual(['', 'é', '', '', '', '🙂', 'x'])
    expect(detokenizer.end()).toBe('')
  })

  it('replaces what never becomes a character', () => {
    const detokenizer = tiny().detokenizer()
    expect(detokenizer.push(byteId(0xff))).toBe('\ufffd')
    expect(detokenizer.push(byteId(0xe2)) + detokenizer.push(byteId(0x82))).toBe('')
    expect(detokenizer.push(byteId(0x41))).toBe('\ufffdA')
    expect(detokenizer.push(byteId(0xf0))).toBe('')
    expect(detokenizer.end()).toBe('\ufffd')
  })

  it('writes control tokens only when told to', () => {
    const ids = [1, byteId(0x41), 2]
    expect(tiny().decode(ids)).toBe('<|im_start|>A<|im_end|>')
    expect(tiny().decode(ids, { skipSpecial: true })).toBe('A')
  })

  it('keeps a byte-order mark', () => {
    const tokenizer = tiny()
    expect(tokenizer.decode(tokenizer.encode('\ufeffa'))).toBe('\ufeffa')
  })
})
