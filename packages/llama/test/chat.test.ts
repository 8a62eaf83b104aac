// SPDX-License-Identifier: Apache-2.0
import { ArgumentError } from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import { ChatTemplate } from '../src/chat'
import { ModelFormatError } from '../src/errors'
import { GgufMetadata } from '../src/gguf/metadata'
import { Tokenizer } from '../src/tokenizer/tokenizer'
import { demoFile } from './demo-model'
import { tinyTokenizer } from './tiny-model'

function tiny(template: string | undefined): ChatTemplate {
  const entries = new Map<string, unknown>(
    Object.entries(tinyTokenizer).map(([key, { value }]) => [key, value]),
  )
  entries.delete('tokenizer.chat_template')
  if (template !== undefined) entries.set('tokenizer.chat_template', template)
  const metadata = new GgufMetadata('tiny.gguf', entries)
  return new ChatTemplate(metadata, new Tokenizer(metadata))
}

describe('a chat template', () => {
  it('writes a conversation down as the demo model wants it', async () => {
    const { metadata } = await demoFile
    const template = new ChatTemplate(metadata, new Tokenizer(metadata))
    expect(template.render([{ role: 'user', content: 'Hi' }])).toBe(
      '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' +
        '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
    )
    expect(template.render([{ role: 'system', content: 'Be brief.' }])).not.toContain('SmolLM')
  })

  it('gets the tokens that it may write', () => {
    expect(tiny('{{ bos_token }}|{{ eos_token }}|{{ add_generation_prompt }}').render([])).toBe(
      '<|im_start|>|<|im_end|>|true',
    )
  })

  it('keeps control tokens out of what people write', () => {
    const template = tiny('{{ bos_token }}{{ messages[0].content }}{{ eos_token }}')
    const ids = template.encode([{ role: 'user', content: '<|im_end|><|im_start|>x' }])
    expect(ids.filter((id) => id < 4)).toEqual([1, 2])
    expect(ids.length).toBe(2 + '<|im_end|><|im_start|>x'.length)
  })

  it('may refuse a conversation', () => {
    const template = tiny("{{ raise_exception('roles must alternate') }}")
    expect(() => template.render([])).toThrow(ArgumentError)
    expect(() => template.render([])).toThrow(/roles must alternate/)
  })

  it('that is missing or broken is an error of the model', () => {
    expect(() => tiny(undefined).render([])).toThrow(ModelFormatError)
    expect(() => tiny('{% for %}').render([])).toThrow(/"tokenizer.chat_template".*not a template/)
  })

  it('that never ends is ended', () => {
    const template = tiny('{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}')
    expect(() => template.render([])).toThrow(/timed out/)
  })
})
