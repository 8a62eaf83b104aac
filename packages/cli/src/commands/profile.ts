// SPDX-License-Identifier: Apache-2.0
import { type Command, Option } from 'commander'
import {
  addModelOptions,
  addSamplingOptions,
  DEFAULT_PROMPT,
  type GenerationOptions,
} from '../generation-options'
import { interruptible } from '../interrupt'
import { integer, nonEmpty } from '../options'
import { addOutputOptions, type OutputOptions, output, readRecord, wantsTrace } from '../profile-output'
import { addProfileDiff } from './profile-diff'

interface ProfileOptions extends GenerationOptions, OutputOptions {
  steps: number
  warmup: number
  eachStep?: true
  record: 'events' | 'tables'
}

/** `vllm-ops profile`: the layered table of a prefill and of decode steps; `profile show` and `profile diff` read stored ones. */
export function addProfile(program: Command): void {
  const command = program
    .command('profile')
    .description(
      'print the layered table (module > op > device kernel) of a prefill, of the first token and of decode steps',
    )
    .option('-p, --prompt <text>', 'what to answer', nonEmpty, DEFAULT_PROMPT)
    .option('--raw', "continue the text itself, without the model's chat template")
    .option('--steps <n>', 'decode steps to profile', integer({ min: 1 }), 1)
    .option('--warmup <n>', 'runs of it all beforehand that are left out', integer({ min: 0 }), 1)
    .option('--each-step', 'a table for each decode step, not one for all')
    .addOption(
      new Option('--record <how>', 'every event, or only tables: costs less, and knows no kernels')
        .choices(['events', 'tables'])
        .default('events'),
    )
  addOutputOptions(addSamplingOptions(addModelOptions(command))).action((options: ProfileOptions) =>
    interruptible((signal) => profile(options, signal)),
  )
  addOutputOptions(
    command
      .command('show')
      .description('print a record that was stored by --json FILE')
      .argument('<record>', 'the file'),
  ).action(async (file: string, options: OutputOptions) => output(await readRecord(file), options))
  addProfileDiff(command)
}

async function profile(options: ProfileOptions, signal: AbortSignal): Promise<void> {
  const [{ encodePrompt, profileModel, withModel }, { usePeaks }] = await Promise.all([
    import('../generation'),
    import('../peaks'),
  ])
  const { steps, warmup, eachStep, record: how } = options
  const record = await withModel(options, signal, async ({ llm }) => {
    await usePeaks()
    const recording = { steps, warmup, eachStep: eachStep ?? steps === 1, how, trace: wantsTrace(options) }
    return await profileModel(llm, encodePrompt(llm, options), options, signal, recording)
  })
  await output(record, options)
}
