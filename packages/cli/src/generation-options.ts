// SPDX-License-Identifier: Apache-2.0
import type { ShapeName } from '@vllm-ops/llama'
import { type Command, Option } from 'commander'
import { decimal, device, integer, nonEmpty } from './options'

/** What `run`, `profile` and `demo` are told about the model and how to continue a prompt. */
export interface GenerationOptions {
  prompt: string
  raw?: true
  /** A known name or a GGUF file; undefined for the demo model. */
  model?: string
  /** The name of a shape: random weights instead of a model. */
  dummy?: ShapeName
  device: string
  dtype: 'float32' | 'bfloat16'
  maxTokens: number
  temperature: number
  topK: number
  topP: number
  seed?: number
  threads?: number
}

/** What the demo asks, and what is profiled where no prompt is given. */
export const DEFAULT_PROMPT = 'What is the difference between a CPU and a GPU? Answer in two sentences.'

/** The values that the options have where they are not given. */
export const DEFAULTS = {
  prompt: DEFAULT_PROMPT,
  device: 'cpu',
  dtype: 'bfloat16',
  maxTokens: 256,
  temperature: 0,
  topK: 0,
  topP: 1,
} as const satisfies GenerationOptions

/** Here, as the packages are not loaded for reading a command line. */
const SHAPE_NAMES: readonly [ShapeName, ...ShapeName[]] = ['llama-3-8b', 'smollm2-135m']

/** Adds the options that say which model runs, and how. */
export function addModelOptions(command: Command): Command {
  return command
    .option('--model <name|file>', 'a known model or a GGUF file (default: the demo model)', nonEmpty)
    .addOption(
      new Option('--dummy [shape]', 'random weights of this shape instead of a model, to measure with')
        .choices(SHAPE_NAMES)
        .preset(SHAPE_NAMES[0])
        .conflicts('model'),
    )
    .option('--device <device>', 'where it runs', device, DEFAULTS.device)
    .addOption(
      new Option('--dtype <dtype>', 'what it computes in')
        .choices(['float32', 'bfloat16'])
        .default(DEFAULTS.dtype),
    )
    .option(
      '--threads <n>',
      'threads within an op (default: libtorch decides)',
      integer({ min: 1, max: 1024 }),
    )
}

/** Adds the options that say how the next token is chosen. */
export function addSamplingOptions(command: Command): Command {
  return command
    .option('--max-tokens <n>', 'tokens to generate at most', integer({ min: 1 }), DEFAULTS.maxTokens)
    .option(
      '--temperature <t>',
      '0 takes the most likely token always',
      decimal({ min: 0 }),
      DEFAULTS.temperature,
    )
    .option('--top-k <n>', 'keep the n most likely tokens, 0 keeps all', integer({ min: 0 }), DEFAULTS.topK)
    .option(
      '--top-p <p>',
      'keep the most likely tokens up to this sum',
      decimal({ above: 0, max: 1 }),
      DEFAULTS.topP,
    )
    .option(
      '--seed <n>',
      'the same seed gives the same text (default: another each time)',
      integer({ min: 0 }),
    )
}
