// SPDX-License-Identifier: Apache-2.0
import { writeFile } from 'node:fs/promises'
import type { ProfileRecord } from '@vllm-ops/core'
import type { Command } from 'commander'
import { CliError, explain } from '../errors'
import {
  addModelOptions,
  addSamplingOptions,
  DEFAULT_PROMPT,
  type GenerationOptions,
} from '../generation-options'
import { interruptible } from '../interrupt'
import { integer, nonEmpty } from '../options'
import { hasColor, outputWidth, say } from '../terminal'

interface ProfileOptions extends GenerationOptions {
  /** A file, or true for stdout. */
  json?: string | true
  fold?: true
  depth?: number
  opDepth?: number
}

/** `vllm-ops profile`: the layered table of one prefill and one decode step. */
export function addProfile(program: Command): void {
  const command = program
    .command('profile')
    .description('print the layered table (module > op > device kernel) of one prefill and one decode step')
    .option('-p, --prompt <text>', 'what to answer', nonEmpty, DEFAULT_PROMPT)
    .option('--raw', "continue the text itself, without the model's chat template")
  addSamplingOptions(addModelOptions(command))
    .option('--fold', 'show repeated layers as one row')
    .option('--depth <n>', 'levels of rows to show', integer({ min: 1 }))
    .option('--op-depth <n>', 'levels of ops to show below a module', integer({ min: 1 }))
    .option(
      '--json [file]',
      'write the record as JSON to a file too; without a file, print JSON instead of the table',
    )
    .action((options: ProfileOptions) => interruptible((signal) => profile(options, signal)))
}

async function profile(options: ProfileOptions, signal: AbortSignal): Promise<void> {
  const [{ formatProfile }, { encodePrompt, profileModel, withModel }] = await Promise.all([
    import('@vllm-ops/core'),
    import('../generation'),
  ])
  const record = await withModel(options, signal, ({ llm }) =>
    profileModel(llm, encodePrompt(llm, options), options, signal),
  )
  if (options.json === true || options.json === '-') {
    process.stdout.write(serialize(record))
    return
  }
  const { fold, depth, opDepth } = options
  const view = { fold, depth, opDepth, width: outputWidth(), color: hasColor(process.stdout) }
  process.stdout.write(formatProfile(record, view))
  if (options.json !== undefined) await save(record, options.json)
}

/** On one line: a model's record has thousands of rows. */
function serialize(record: ProfileRecord): string {
  return `${JSON.stringify(record)}\n`
}

/** Writes the record; the table is printed by then, so a failure loses nothing. */
async function save(record: ProfileRecord, file: string): Promise<void> {
  try {
    await writeFile(file, serialize(record))
  } catch (error) {
    const { code, message } = explain(error)
    throw new CliError(
      code,
      `the record was not written: ${message}`,
      'Give a file that can be written: --json FILE',
    )
  }
  say(`record: ${file}`)
}
