// SPDX-License-Identifier: Apache-2.0
import { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers'
import type { GgufMetadata } from '../gguf/metadata'
import { tokenBytes } from './bytes'
import { Detokenizer } from './detokenizer'
import { PRE_TOKENIZERS, type PreTokenizer } from './pre-tokenizers'
import { endOfGenerationIds, TokenType } from './special-tokens'

/** How to read text in {@link Tokenizer.encode}. */
export interface EncodeOptions {
  /** Whether the text of control tokens (`<|im_start|>`, …) means these tokens. Not for text from users. Default false. */
  parseSpecial?: boolean
  /** Whether to add what the model wants around every prompt, e.g. a beginning-of-sequence token. Default true. */
  addSpecial?: boolean
}

/** How to write tokens in {@link Tokenizer.decode}. */
export interface DecodeOptions {
  /** Leaves control tokens out. Default false. */
  skipSpecial?: boolean
}

/**
 * A model's tokenizer, made from the metadata of its GGUF file: byte-level byte-pair encoding (`tokenizer.ggml.model` is
 * `gpt2`). Merging is done by `@huggingface/tokenizers`; token ids equal llama.cpp's.
 */
export class Tokenizer {
  /** Every token, as the file spells it. */
  readonly vocab: readonly string[]
  /** The beginning-of-sequence token, if the model has one. */
  readonly bosId: number | undefined
  /** The end-of-sequence token, if the model has one. */
  readonly eosId: number | undefined
  /** The tokens that end a generation, in ascending order. */
  readonly endOfGenerationIds: readonly number[]

  readonly #bpe: BpeTokenizer
  readonly #types: readonly TokenType[]
  readonly #addBos: boolean
  readonly #addEos: boolean
  readonly #special: SpecialTokens
  readonly #userDefined: SpecialTokens
  readonly #bytes: (Uint8Array | undefined)[] = []

  /** Throws `E_MODEL_FORMAT` where the metadata is incomplete, contradicts itself or names an unknown kind of tokenizer. */
  constructor(metadata: GgufMetadata) {
    const pre = preTokenizer(metadata)
    this.vocab = readVocab(metadata)
    this.#types = readTypes(metadata, this.vocab.length)
    this.#bpe = createBpe(metadata, this.vocab, this.#types, pre)
    const id = (name: string) => {
      const key = `tokenizer.ggml.${name}_token_id`
      return metadata.has(key) ? metadata.integer(key, { min: 0, max: this.vocab.length - 1 }) : undefined
    }
    this.bosId = id('bos')
    this.eosId = id('eos')
    this.#addBos = this.bosId !== undefined && metadata.boolean('tokenizer.ggml.add_bos_token', pre.addBos)
    this.#addEos = this.eosId !== undefined && metadata.boolean('tokenizer.ggml.add_eos_token', false)
    this.endOfGenerationIds = endOfGenerationIds(this.vocab, this.#types, [this.eosId, id('eot'), id('eom')])
    const ids = (...types: TokenType[]) => this.#types.flatMap((type, i) => (types.includes(type) ? [i] : []))
    this.#special = new SpecialTokens(
      this.vocab,
      ids(TokenType.control, TokenType.unknown, TokenType.userDefined),
    )
    this.#userDefined = new SpecialTokens(this.vocab, ids(TokenType.userDefined))
  }

  /** The ids of a text. Characters that the vocabulary has no bytes for are left out. */
  encode(text: string, { parseSpecial = false, addSpecial = true }: EncodeOptions = {}): number[] {
    const ids: number[] = []
    if (addSpecial && this.#addBos) ids.push(this.bosId!)
    for (const part of (parseSpecial ? this.#special : this.#userDefined).split(text)) {
      if (typeof part === 'number') ids.push(part)
      else
        for (const id of this.#bpe.encode(part.replaceAll(GUARD, ''), { add_special_tokens: false }).ids)
          ids.push(id)
    }
    if (addSpecial && this.#addEos) ids.push(this.eosId!)
    return ids
  }

  /**
   * The text with a mark inside everything that looks like a control token, so that {@link encode} with `parseSpecial` takes it
   * for the text that it is. The mark, a noncharacter of Unicode, is no part of what is encoded.
   */
  guard(text: string): string {
    return this.#special
      .split(text)
      .map((part) => (typeof part === 'number' ? this.vocab[part]!.replace(/^./u, `$&${GUARD}`) : part))
      .join('')
  }

  /** The text of tokens. Bytes that are no UTF-8 become U+FFFD. Throws a RangeError for an id outside the vocabulary. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string {
    const detokenizer = this.detokenizer(options)
    let text = ''
    for (const id of ids) text += detokenizer.push(id)
    return text + detokenizer.end()
  }

  /** Decodes one token after another: text comes as soon as its characters are complete. */
  detokenizer(options?: DecodeOptions): Detokenizer {
    return new Detokenizer((id) => this.bytes(id, options))
  }

  /** The id of a token as the file spells it. */
  id(token: string): number | undefined {
    return this.#bpe.token_to_id(token) ?? this.#special.id(token)
  }

  /** The bytes that a token stands for. */
  bytes(id: number, { skipSpecial = false }: DecodeOptions = {}): Uint8Array {
    const token = this.vocab[id]
    if (token === undefined)
      throw new RangeError(`token id ${id} is not in the vocabulary of ${this.vocab.length}`)
    const type = this.#types[id]!
    if (skipSpecial && (type === TokenType.control || type === TokenType.unknown)) return NO_BYTES
    this.#bytes[id] ??= type === TokenType.normal ? tokenBytes(token) : new TextEncoder().encode(token)
    return this.#bytes[id]
  }
}

const NO_BYTES = new Uint8Array(0)
const GUARD = '\ufdd0'

/** Finds the tokens in a text that are never split: at each place the longest. */
class SpecialTokens {
  readonly #ids = new Map<string, number>()
  /** The lengths of the tokens that begin with a character (its code unit), longest first. */
  readonly #lengths = new Map<number, number[]>()

  constructor(vocab: readonly string[], ids: readonly number[]) {
    for (const id of ids) if (vocab[id] !== '') this.#ids.set(vocab[id]!, id)
    for (const token of this.#ids.keys()) {
      const first = token.charCodeAt(0)
      const lengths = this.#lengths.get(first) ?? []
      if (!lengths.includes(token.length)) lengths.push(token.length)
      this.#lengths.set(first, lengths)
    }
    for (const lengths of this.#lengths.values()) lengths.sort((a, b) => b - a)
  }

  id(token: string): number | undefined {
    return this.#ids.get(token)
  }

  /** The text in parts: ids of these tokens, and what lies between them. */
  split(text: string): (string | number)[] {
    const parts: (string | number)[] = []
    let start = 0
    for (let i = 0; i < text.length; ) {
      const length = this.#lengths.get(text.charCodeAt(i))?.find((n) => this.#ids.has(text.slice(i, i + n)))
      if (length === undefined) {
        i++
        continue
      }
      if (i > start) parts.push(text.slice(start, i))
      parts.push(this.#ids.get(text.slice(i, i + length))!)
      i += length
      start = i
    }
    if (start < text.length) parts.push(text.slice(start))
    return parts
  }
}

function preTokenizer(metadata: GgufMetadata): PreTokenizer {
  const model = metadata.string('tokenizer.ggml.model')
  if (model !== 'gpt2') {
    throw metadata.error(
      'tokenizer.ggml.model',
      `${JSON.stringify(model)} is not supported, only "gpt2" (byte-level BPE)`,
    )
  }
  const name = metadata.string('tokenizer.ggml.pre', 'default')
  const pre = PRE_TOKENIZERS.get(name)
  if (!pre) {
    const known = [...PRE_TOKENIZERS.keys()].join(', ')
    throw metadata.error(
      'tokenizer.ggml.pre',
      `${JSON.stringify(name)} is not supported (supported: ${known})`,
    )
  }
  return pre
}

function readVocab(metadata: GgufMetadata): string[] {
  const key = 'tokenizer.ggml.tokens'
  const vocab = metadata.strings(key)
  if (vocab.length === 0) throw metadata.error(key, 'it is empty')
  if (new Set(vocab).size !== vocab.length) {
    const seen = new Set<string>()
    const twice = vocab.findIndex((token) => seen.size === seen.add(token).size)
    throw metadata.error(key, `token ${twice}, ${JSON.stringify(vocab[twice])}, is there twice`)
  }
  return vocab
}

function readTypes(metadata: GgufMetadata, count: number): TokenType[] {
  const key = 'tokenizer.ggml.token_type'
  if (!metadata.has(key)) return new Array<TokenType>(count).fill(TokenType.normal)
  const types = metadata.numbers(key)
  if (types.length !== count) throw metadata.error(key, `it has ${types.length} elements for ${count} tokens`)
  return types
}

/** Everything that is not a whole token by itself goes to the library, as a tokenizer.json made in memory. */
function createBpe(
  metadata: GgufMetadata,
  vocab: readonly string[],
  types: readonly TokenType[],
  pre: PreTokenizer,
): BpeTokenizer {
  const merges = metadata.strings('tokenizer.ggml.merges').map((merge, i) => {
    const space = merge.indexOf(' ', 1)
    if (space < 0)
      throw metadata.error('tokenizer.ggml.merges', `merge ${i}, ${JSON.stringify(merge)}, is not a pair`)
    return [merge.slice(0, space), merge.slice(space + 1)]
  })
  const split = (pattern: string) => ({
    type: 'Split',
    pattern: { Regex: pattern },
    behavior: 'Isolated',
    invert: false,
  })
  const model = {
    type: 'BPE',
    // Own properties whatever the token, `__proto__` included.
    vocab: Object.fromEntries(vocab.flatMap((token, id) => (isText(types[id]!) ? [[token, id]] : []))),
    merges,
    ignore_merges: pre.ignoreMerges,
  }
  // The patterns are spelled out because the library's Digits and ByteLevel know only ASCII digits and JavaScript's white
  // space (which has U+FEFF and lacks U+0085); in a Split it translates \s to Unicode's White_Space.
  const pre_tokenizer = {
    type: 'Sequence',
    pretokenizers: [
      ...pre.patterns.map(split),
      { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
    ],
  }
  const tokenizer = {
    model,
    pre_tokenizer,
    added_tokens: [],
    normalizer: null,
    decoder: null,
    post_processor: null,
  }
  return new BpeTokenizer(tokenizer, {})
}

function isText(type: TokenType): boolean {
  return type !== TokenType.control && type !== TokenType.unknown && type !== TokenType.userDefined
}
