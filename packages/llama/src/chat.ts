// SPDX-License-Identifier: Apache-2.0
import { runInNewContext } from 'node:vm'
import { Template } from '@huggingface/jinja'
import { ArgumentError } from '@vllm-ops/core'
import type { GgufMetadata } from './gguf/metadata'
import type { Tokenizer } from './tokenizer/tokenizer'

/** One message of a conversation. */
export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant' | (string & {})
  readonly content: string
}

const KEY = 'tokenizer.chat_template'
const RENDER_LIMIT_MS = 5000

/** A model's own way to write a conversation down: the Jinja template in its metadata. */
export class ChatTemplate {
  readonly #metadata: GgufMetadata
  readonly #tokenizer: Tokenizer
  #template: Template | undefined

  constructor(metadata: GgufMetadata, tokenizer: Tokenizer) {
    this.#metadata = metadata
    this.#tokenizer = tokenizer
  }

  /**
   * The text of a conversation, ending where the assistant's answer begins.
   *
   * @throws ModelFormatError if the model has no template or a broken one; ArgumentError if the template refuses the messages
   */
  render(messages: readonly ChatMessage[]): string {
    this.#template ??= this.#parse()
    const token = (id: number | undefined) => (id === undefined ? '' : this.#tokenizer.vocab[id]!)
    const variables = {
      messages: messages.map(({ role, content }) => ({ role, content })),
      add_generation_prompt: true,
      bos_token: token(this.#tokenizer.bosId),
      eos_token: token(this.#tokenizer.eosId),
    }
    const template = this.#template
    try {
      // A template is a program out of a file that nobody checked: the context is there for its time limit.
      return runInNewContext(
        'render()',
        { render: () => template.render(variables) },
        { timeout: RENDER_LIMIT_MS },
      )
    } catch (cause) {
      const received = cause instanceof Error ? cause.message : String(cause)
      throw new ArgumentError(
        'chat',
        'messages',
        "a conversation that the model's chat template takes",
        received,
      )
    }
  }

  /**
   * The token ids of a conversation. Control tokens come from the template alone: where a message contains the text of one, it
   * stays text.
   */
  encode(messages: readonly ChatMessage[]): number[] {
    const guarded = messages.map(({ role, content }) => ({ role, content: this.#tokenizer.guard(content) }))
    // The template writes the beginning-of-sequence token itself, where the model wants one.
    return this.#tokenizer.encode(this.render(guarded), { parseSpecial: true, addSpecial: false })
  }

  #parse(): Template {
    const source = this.#metadata.string(KEY)
    try {
      return new Template(source)
    } catch (cause) {
      throw this.#metadata.error(KEY, `not a template: ${cause instanceof Error ? cause.message : cause}`)
    }
  }
}
