// SPDX-License-Identifier: Apache-2.0
import { GgufMetadata } from '../gguf/metadata'
import { BYTE_TOKENS } from './bytes'
import { TokenType } from './special-tokens'

/** The metadata of a vocabulary for random weights: a token for each byte, and names for the others. Nothing ends a generation. */
export function dummyTokenizer(vocabSize: number): GgufMetadata {
  const tokens = Array.from({ length: vocabSize }, (_, id) => BYTE_TOKENS[id] ?? `<unused${id}>`)
  const types = tokens.map((_, id) => (id < BYTE_TOKENS.length ? TokenType.normal : TokenType.unused))
  const values = new Map<string, unknown>([
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', types],
    ['tokenizer.ggml.merges', []],
    ['tokenizer.chat_template', '{% for message in messages %}{{ message.content }}{% endfor %}'],
  ])
  return new GgufMetadata('random weights', values)
}
