// SPDX-License-Identifier: Apache-2.0
//
// A program: our runner in the llama benchmark.
import { setNumThreads, use } from '@vllm-ops/core'
import cpu from '@vllm-ops/cpu'
import { LLM, type LoadOptions } from '@vllm-ops/llama'
import { perform, task } from './runner'

const { model, threads, dtype, prefillTokens, decodeTokens } = task()
use(cpu, { strict: true })
setNumThreads(threads)
const llm = await LLM.load(model, {
  dtype: dtype as NonNullable<LoadOptions['dtype']>,
  maxModelLen: prefillTokens + decodeTokens + 64,
})
await perform(task(), {
  name: `vllm-ops, ${dtype}`,
  tokenize: (text) => llm.tokenizer.encode(text),
  generate: (prompt, maxTokens) => llm.generate(prompt, { maxTokens, temperature: 0, ignoreEos: true }),
})
llm.dispose()
