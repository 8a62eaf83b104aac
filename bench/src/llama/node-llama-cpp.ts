// SPDX-License-Identifier: Apache-2.0
//
// A program: node-llama-cpp in the llama benchmark. One sequence, greedy, the batch as long as the prompt.
import { getLlama, getModuleVersion, LlamaLogLevel, type Token } from 'node-llama-cpp'
import { perform, task } from './runner'

const { model: modelPath, threads, prefillTokens, decodeTokens } = task()
const llama = await getLlama({
  gpu: false,
  build: 'never',
  maxThreads: threads,
  progressLogs: false,
  logLevel: LlamaLogLevel.error,
})
const model = await llama.loadModel({ modelPath })
const context = await model.createContext({
  contextSize: prefillTokens + decodeTokens + 64,
  batchSize: prefillTokens,
  threads,
  sequences: 1,
})
const sequence = context.getSequence()

async function* generate(prompt: readonly Token[], tokens: number): AsyncGenerator<Token> {
  await sequence.clearHistory()
  let count = 0
  for await (const token of sequence.evaluate([...prompt], { temperature: 0, yieldEogToken: true })) {
    yield token
    if (++count === tokens) return
  }
}

await perform(task(), {
  name: `node-llama-cpp ${await getModuleVersion()}`,
  tokenize: (text) => model.tokenize(text, false),
  generate: (prompt, tokens) => generate(prompt as readonly Token[], tokens),
})
await llama.dispose()
