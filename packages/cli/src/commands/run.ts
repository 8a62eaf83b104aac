// SPDX-License-Identifier: Apache-2.0
import type { GeneratedToken } from '@vllm-ops/llama'
import type { Command } from 'commander'
import { UsageError } from '../errors'
import { addModelOptions, addSamplingOptions, type GenerationOptions } from '../generation-options'
import { interruptible } from '../interrupt'
import { integer, nonEmpty } from '../options'
import { printJson, say } from '../terminal'

interface RunOptions extends GenerationOptions {
  logprobs?: number
  json?: true
}

/** `vllm-ops run`: continues one prompt. */
export function addRun(program: Command): void {
  const command = program
    .command('run')
    .description('answer a prompt; the text streams to stdout, everything else goes to stderr')
    .requiredOption('-p, --prompt <text>', 'what to answer', nonEmpty)
    .option('--raw', "continue the text itself, without the model's chat template")
  addSamplingOptions(addModelOptions(command))
    .option('--logprobs <k>', 'with --json: the k most likely tokens of every position', integer({ min: 1 }))
    .option('--json', 'print JSON, at the end')
    .action(async (options: RunOptions) => {
      if (options.logprobs !== undefined && !options.json) {
        throw new UsageError("option '--logprobs' needs '--json'", 'run')
      }
      await interruptible((signal) => run(options, signal))
    })
}

async function run(options: RunOptions, signal: AbortSignal): Promise<void> {
  const { describeSpeed, encodePrompt, generate, withModel } = await import('../generation')
  await withModel(options, signal, async ({ llm, name }) => {
    const promptIds = encodePrompt(llm, options)
    const stream = options.json ? () => {} : (text: string) => process.stdout.write(text)
    const { tokens, metrics } = await generate(llm, promptIds, options, signal, stream).finally(() =>
      stream('\n'),
    )
    if (!options.json) {
      say(
        `${name}, ${llm.dtype} on ${llm.device}: loaded in ${llm.loadMs.toFixed(0)} ms, ${describeSpeed(metrics)}`,
      )
      return
    }
    printJson({
      model: name,
      device: llm.device,
      dtype: llm.dtype,
      prompt_token_ids: promptIds,
      token_ids: tokens.map(({ tokenId }) => tokenId),
      text: tokens.map(({ text }) => text).join(''),
      load_ms: llm.loadMs,
      // JSON has no NaN: null where nothing was measured, as the decoding speed of one token.
      prefill_tokens_per_s: metrics.prefillTokensPerSecond,
      decode_tokens_per_s: metrics.decodeTokensPerSecond,
      ...(options.logprobs === undefined ? {} : { logprobs: tokens.map(bestTokens) }),
    })
  })
}

/** The most likely tokens at the position of `token`, best first. */
function bestTokens({ topLogprobs = [] }: GeneratedToken): { id: number; logprob: number }[] {
  return topLogprobs.map(({ tokenId, logprob }) => ({ id: tokenId, logprob }))
}
