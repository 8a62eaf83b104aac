// SPDX-License-Identifier: Apache-2.0
import type { Command } from 'commander'
import { DEFAULT_PROMPT, DEFAULTS, type GenerationOptions } from '../generation-options'
import { interruptible } from '../interrupt'
import { hasColor, outputWidth, say } from '../terminal'

/** Enough for an answer of some sentences. */
const MAX_TOKENS = 128

/** `vllm-ops demo`: an answer, how fast it was, and where the time went. */
export function addDemo(program: Command): void {
  program
    .command('demo')
    .description('answer a prompt with the demo model, then show its speed and its layered trace')
    .argument('[prompt...]', 'what to answer', [DEFAULT_PROMPT])
    .action((words: string[]) => interruptible((signal) => demo(words.join(' ') || DEFAULT_PROMPT, signal)))
}

async function demo(prompt: string, signal: AbortSignal): Promise<void> {
  const [{ formatProfile }, { describeSpeed, encodePrompt, generate, profileModel, withModel }] =
    await Promise.all([import('@vllm-ops/core'), import('../generation')])
  const options: GenerationOptions = { ...DEFAULTS, prompt, maxTokens: MAX_TOKENS }
  await withModel(options, signal, async ({ llm, name }) => {
    say(`${name}, ${llm.dtype} on ${llm.device}, loaded in ${llm.loadMs.toFixed(0)} ms\n\n> ${prompt}\n`)
    const promptIds = encodePrompt(llm, options)
    const stream = (text: string) => process.stdout.write(text)
    const { metrics } = await generate(llm, promptIds, options, signal, stream).finally(() => stream('\n\n'))
    stream(`${describeSpeed(metrics)}\n\n`)
    const record = await profileModel(llm, promptIds, options, signal)
    // The outline: one row for all layers, and of the ops those that the modules call themselves.
    const outline = { fold: true, opDepth: 1 }
    stream(formatProfile(record, { ...outline, width: outputWidth(), color: hasColor(process.stdout) }))
  })
}
