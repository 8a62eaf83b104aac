// SPDX-License-Identifier: Apache-2.0
// Loads the heavy packages: imported by commands when they run, not when the command line is read.
import { type ProfileRecord, phase, profile, profileCaptures, setNumThreads } from '@vllm-ops/core'
import { showProgress } from '@vllm-ops/libtorch'
import { DEFAULT_MODEL, type GeneratedToken, type GenerationMetrics, LLM, SHAPES } from '@vllm-ops/llama'
import { startBackends } from './backends'
import { CliError } from './errors'
import type { GenerationOptions } from './generation-options'

/** A model that is loaded, and what it was asked for by. */
export interface LoadedModel {
  llm: LLM
  /** The name or file that was asked for. */
  name: string
}

/** Loads the model, fetching a known one that is not in the cache, and disposes of it after `work`. */
export async function withModel<T>(
  options: GenerationOptions,
  signal: AbortSignal,
  work: (model: LoadedModel) => Promise<T>,
): Promise<T> {
  const { dummy, device, dtype, threads } = options
  await requireBackend(device)
  if (threads !== undefined) setNumThreads(threads)
  const name = dummy ?? options.model ?? DEFAULT_MODEL
  const llm =
    dummy === undefined ? await load(name, options, signal) : LLM.dummy(SHAPES[dummy], { device, dtype })
  try {
    return await work({ llm, name })
  } finally {
    llm.dispose()
  }
}

async function load(name: string, { device, dtype }: GenerationOptions, signal: AbortSignal): Promise<LLM> {
  const { onProgress, end } = showProgress()
  return await LLM.load(name, { device, dtype, signal, onProgress }).finally(end)
}

/** The prompt's tokens: as a user's message in the model's chat template, or as they are. */
export function encodePrompt(llm: LLM, { prompt, raw }: GenerationOptions): readonly number[] {
  if (raw) return llm.tokenizer.encode(prompt, { parseSpecial: true })
  return llm.chatTemplate.encode([{ role: 'user', content: prompt }])
}

/** What a generation gave. */
export interface Generation {
  tokens: GeneratedToken[]
  metrics: GenerationMetrics
}

/** Continues `promptIds`; `onText` gets the text as it becomes certain. */
export async function generate(
  llm: LLM,
  promptIds: readonly number[],
  options: GenerationOptions & { logprobs?: number },
  signal: AbortSignal,
  onText: (text: string) => void,
): Promise<Generation> {
  const { maxTokens, temperature, topK, topP, seed, logprobs } = options
  const tokens: GeneratedToken[] = []
  const sampling = { maxTokens, temperature, topK, topP, ...(seed === undefined ? {} : { seed }) }
  const parameters = { ...sampling, ...(logprobs === undefined ? {} : { logprobs }), signal }
  for await (const token of llm.generate(promptIds, parameters)) {
    tokens.push(token)
    if (token.text !== '') onText(token.text)
  }
  const metrics = tokens.at(-1)?.metrics
  if (!metrics)
    throw new CliError(
      'E_INTERNAL',
      'the generation ended without its last token',
      'This is a bug: report it with the command line',
    )
  return { tokens, metrics }
}

/** How {@link profileModel} records. */
export interface Recording {
  /** Decode steps. */
  steps: number
  /** Runs of it all beforehand, as the first calls of an op allocate and choose kernels. */
  warmup: number
  /** A phase for each decode step (`decode[0]`, `decode[1]`, …), not one for all (`decode`). */
  eachStep: boolean
  how: 'events' | 'tables'
  /** Keep every event. */
  trace: boolean
}

const ONE_STEP: Recording = { steps: 1, warmup: 1, eachStep: true, how: 'events', trace: false }

/**
 * Profiles the computation of the prompt (phase `prefill`), the choice of the token behind it (`first token`), and the steps that give
 * the others (`decode[0]`, … or `decode`).
 */
export async function profileModel(
  llm: LLM,
  promptIds: readonly number[],
  options: GenerationOptions,
  signal: AbortSignal,
  { steps, warmup, eachStep, how, trace }: Recording = ONE_STEP,
): Promise<ProfileRecord> {
  const { temperature, topK, topP, seed } = options
  // All tokens are wanted even where an earlier one ends the text.
  const parameters = {
    ...{ maxTokens: steps + 1, ignoreEos: true, temperature, topK, topP, signal },
    ...(seed === undefined ? {} : { seed }),
  }
  // Decode steps may be captured in the warm-up and replayed in the profile.
  profileCaptures(true)
  for (let i = 0; i < warmup; i++) for await (const _ of llm.generate(promptIds, parameters));
  const { record } = await profile(
    async () => {
      const tokens = llm.generate(promptIds, parameters)
      // Its phases are the engine's.
      await tokens.next()
      for (let step = 0; step < steps; step++) {
        await phase(eachStep ? `decode[${step}]` : 'decode', () => tokens.next())
      }
    },
    { record: how, trace },
  )
  return record
}

/** `prefill 34 tokens at 512.3/s, decode 80 tokens at 61.9/s`, for a person. */
export function describeSpeed(metrics: GenerationMetrics): string {
  const { promptTokens, prefillTokensPerSecond, generatedTokens, decodeTokensPerSecond } = metrics
  const prefill = `prefill ${promptTokens} tokens at ${prefillTokensPerSecond.toFixed(1)} tokens/s`
  if (Number.isNaN(decodeTokensPerSecond)) return prefill
  return `${prefill}, decode ${generatedTokens - 1} tokens at ${decodeTokensPerSecond.toFixed(1)} tokens/s`
}

/** @throws CliError if the kernels of `device` cannot be used */
export async function requireBackend(device: string): Promise<void> {
  const type = device.replace(/:\d+$/, '')
  const reports = (await startBackends()).map(({ report }) => report)
  const report = reports.find(({ name }) => name === type)
  if (!report) {
    const known = reports.map(({ name }) => name).join(', ')
    throw new CliError(
      'E_BACKEND_UNAVAILABLE',
      `no backend has the device '${device}'`,
      `Use one of: ${known}`,
    )
  }
  if (report.status === 'ready') return
  const fix = report.fix ?? 'See vllm-ops doctor'
  throw new CliError(
    'E_BACKEND_UNAVAILABLE',
    `the backend ${type} cannot be used (${report.status}): ${report.reason}`,
    fix,
  )
}
