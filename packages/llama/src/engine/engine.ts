// SPDX-License-Identifier: Apache-2.0
import { setImmediate } from 'node:timers/promises'
import { fromTypedArray, phase, scope, type Tensor, torch } from '@vllm-ops/core'
import { createKvCache, type LayerCache } from '../kv-cache'
import type { LlamaForCausalLM } from '../modules/llama'
import { hostRows, Sampler } from '../modules/sampler'
import { logprobsOf } from '../sampling/sample'
import type { LogitsRow } from './model-input'
import { ModelRunner, type RunnerOptions, type StepOutput } from './model-runner'
import { type ScheduledSequence, Scheduler, type SchedulerLimits } from './scheduler'
import type { GeneratedToken, Sequence } from './sequence'
import { TokenStream } from './token-stream'

/** What bounds an engine, and how its steps are captured. */
export type EngineOptions = SchedulerLimits & RunnerOptions

/** Runs all sequences of a model, batching those that run at the same time, and gives the event loop a turn after every step. */
export class Engine {
  readonly #runner: ModelRunner
  readonly #caches: readonly LayerCache[]
  readonly #sampler = new Sampler('sampler')
  readonly #scheduler: Scheduler
  readonly #streams = new Map<Sequence, TokenStream>()
  #running = false

  constructor(model: LlamaForCausalLM, options: EngineOptions) {
    this.#scheduler = new Scheduler(options)
    this.#caches = createKvCache(model.config, options.numBlocks, model.dtype, model.device)
    this.#runner = new ModelRunner(model, this.#caches, options)
  }

  /** Runs a sequence and yields its tokens as they come. Leaving the loop early, or an abort, ends it. */
  async *run(sequence: Sequence, signal?: AbortSignal): AsyncGenerator<GeneratedToken, void, undefined> {
    signal?.throwIfAborted()
    const stream = new TokenStream()
    const abort = () => this.#fail(sequence, signal!.reason)
    signal?.addEventListener('abort', abort, { once: true })
    this.#streams.set(sequence, stream)
    this.#scheduler.add(sequence)
    if (!this.#running) void this.#loop()
    try {
      yield* stream
    } finally {
      signal?.removeEventListener('abort', abort)
      this.#end(sequence)
    }
  }

  /** Ends every sequence with this error and frees the cache. */
  dispose(error: unknown): void {
    for (const sequence of [...this.#streams.keys()]) this.#fail(sequence, error)
    this.#runner.dispose()
    for (const { key, value } of this.#caches) {
      key.dispose()
      value.dispose()
    }
  }

  #fail(sequence: Sequence, error: unknown): void {
    this.#streams.get(sequence)?.fail(error)
    this.#end(sequence)
  }

  #end(sequence: Sequence): void {
    this.#scheduler.remove(sequence)
    this.#streams.delete(sequence)
  }

  async #loop(): Promise<void> {
    this.#running = true
    while (!this.#scheduler.isEmpty) {
      const batch = this.#scheduler.schedule()
      try {
        await this.#step(batch)
      } catch (error) {
        for (const { sequence } of batch) this.#fail(sequence, error)
      }
      await setImmediate()
    }
    this.#running = false
  }

  /** One step: a decode, or a prefill and, where it ends a prompt, the choice of the first token, which is a phase of its own. */
  async #step(batch: readonly ScheduledSequence[]): Promise<void> {
    const isDecode = batch.every(({ sequence }) => sequence.isGenerating)
    if (isDecode || !batch.some(endsPrompt)) {
      const whole = () => scope(() => this.#sample(this.#compute(batch)))
      return await phase(isDecode ? 'decode' : 'prefill', whole)
    }
    await scope(async () => {
      const output = await phase('prefill', () => this.#compute(batch))
      await phase('first token', () => this.#sample(output))
    })
  }

  #compute(batch: readonly ScheduledSequence[]): StepOutput {
    for (const { sequence } of batch) sequence.startClock()
    const output = this.#runner.run(batch)
    for (const { sequence, numTokens } of batch) sequence.numComputed += numTokens
    scorePrompts(output.logits, output.rows)
    return output
  }

  /** Chooses the next token of every sequence that is through with what it has. */
  #sample({ logits, greedy, rows }: StepOutput): void {
    const sampling = rows.flatMap(({ sequence, position }, row) =>
      position + 1 < sequence.tokenIds.length ? [] : [row],
    )
    if (sampling.length === 0) return
    const sequences = sampling.map((row) => rows[row]!.sequence)
    const sampled = this.#sampler.call(
      selectRows(logits, sampling, rows.length),
      sequences,
      greedy && selectRows(greedy, sampling, rows.length),
    )
    for (const [i, sequence] of sequences.entries()) {
      const token = sequence.append(sampled[i]!)
      const stream = this.#streams.get(sequence)!
      stream.push(token)
      if (token.finishReason === undefined) continue
      stream.end()
      this.#end(sequence)
    }
  }
}

/** Whether what is left of a sequence's prompt is in this step. */
function endsPrompt({ sequence, numTokens }: ScheduledSequence): boolean {
  return !sequence.isGenerating && sequence.numComputed + numTokens >= sequence.tokenIds.length
}

/** Reports the log-probabilities of prompt tokens to the sequences that asked for them. */
function scorePrompts(logits: Tensor, rows: readonly LogitsRow[]): void {
  const scored = rows.flatMap((row, i) =>
    row.position + 1 < row.sequence.tokenIds.length ? [{ ...row, i }] : [],
  )
  if (scored.length === 0) return
  const values = hostRows(logits)
  for (const { sequence, position, i } of scored) {
    const tokenId = sequence.tokenIds[position + 1]!
    const { logprob, top } = logprobsOf(values(i), tokenId, sequence.params.promptLogprobs!)
    sequence.promptLogprobs.push({ tokenId, logprob, topLogprobs: top })
  }
}

function selectRows(tensor: Tensor, rows: readonly number[], all: number): Tensor {
  if (rows.length === all) return tensor
  const indices = fromTypedArray(BigInt64Array.from(rows, BigInt)).to({ device: tensor.device })
  return torch.aten.index_select(tensor, 0, indices)
}
