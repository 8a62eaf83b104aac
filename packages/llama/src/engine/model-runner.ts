// SPDX-License-Identifier: Apache-2.0
import { canCapture, capture, Graph, profiling, type Tensor, torch } from '@vllm-ops/core'
import type { LayerCache } from '../kv-cache'
import type { LlamaForCausalLM } from '../modules/llama'
import { DecodeBatch } from './decode-batch'
import { type LogitsRow, prepareInput } from './model-input'
import type { ScheduledSequence } from './scheduler'

/** What a step has computed. */
export interface StepOutput {
  /** float32 `[rows, vocabulary]` */
  readonly logits: Tensor
  /** What each row of the logits is for. */
  readonly rows: readonly LogitsRow[]
  /** int64 `[rows]`: the most likely token of each row, where it was computed along with them. */
  readonly greedy?: Tensor
}

/** What a captured decode step leaves behind. */
interface DecodeResult {
  readonly logits: Tensor
  readonly greedy: Tensor
}

/** A captured step: what the runner needs of core's `Graph`. */
export type CapturedStep<T> = Pick<Graph<T>, 'result' | 'replay' | 'dispose'>

/** How steps are captured. `pool` was captured before, and may share its memory: steps are replayed one at a time. */
export type Capture = <T>(fn: () => T, pool: CapturedStep<unknown> | undefined) => CapturedStep<T>

/** What a runner has to be ready for. */
export interface RunnerOptions {
  /** Tokens of the longest sequence. */
  readonly maxModelLen: number
  /** Sequences a step at most. */
  readonly maxNumSeqs: number
  /** How steps are captured; `undefined` never captures. Default: core's `capture` where the backend of the device can. */
  readonly capture?: Capture | undefined
}

/** The shortest longest sequence that a graph is captured for; the others are its doubles. */
const SHORTEST_GRAPH = 512

/**
 * Runs the model on a step's sequences. Steps in which all of them generate keep their inputs in one place, and where the backend can
 * capture, they are captured and from then on replayed: one call instead of the host's part in hundreds of ops.
 */
export class ModelRunner {
  readonly #model: LlamaForCausalLM
  readonly #caches: readonly LayerCache[]
  readonly #maxModelLen: number
  readonly #maxNumSeqs: number
  readonly #capture: Capture | undefined
  readonly #batches = new Map<number, DecodeBatch>()
  /** By size and longest sequence. `undefined` where a step has run once: libraries prepare themselves in the first one. */
  readonly #graphs = new Map<string, CapturedStep<DecodeResult> | undefined>()

  constructor(model: LlamaForCausalLM, caches: readonly LayerCache[], options: RunnerOptions) {
    this.#model = model
    this.#caches = caches
    this.#maxModelLen = options.maxModelLen
    this.#maxNumSeqs = options.maxNumSeqs
    this.#capture = 'capture' in options ? options.capture : captureOn(model.device)
  }

  /** Computes the next tokens of these sequences. The result is valid until the next step. */
  run(batch: readonly ScheduledSequence[]): StepOutput {
    const isDecode = batch.every(({ sequence }) => sequence.isGenerating)
    return isDecode ? this.#decode(batch) : this.#prefill(batch)
  }

  /** Frees graphs and inputs. Twice is once. */
  dispose(): void {
    for (const graph of this.#graphs.values()) graph?.dispose()
    for (const batch of this.#batches.values()) batch.dispose()
    this.#graphs.clear()
    this.#batches.clear()
  }

  #prefill(batch: readonly ScheduledSequence[]): StepOutput {
    const { inputIds, positions, metadata, logitsIndices, rows } = prepareInput(batch, this.#model.device)
    return { logits: this.#model.call(inputIds, positions, this.#caches, metadata, logitsIndices), rows }
  }

  #decode(batch: readonly ScheduledSequence[]): StepOutput {
    const sequences = batch.map(({ sequence }) => sequence)
    const count = sequences.length
    const longest = Math.max(...sequences.map(({ numComputed }) => numComputed + 1))
    const rows = sequences.map((sequence) => ({ sequence, position: sequence.numComputed }))
    const size = this.#capture ? paddedSize(count, this.#maxNumSeqs) : count
    const maxSeqLen = this.#capture ? paddedLength(longest, this.#maxModelLen) : longest
    const inputs = this.#inputs(size)
    inputs.fill(sequences)
    const graph = this.#graph(inputs, maxSeqLen)
    if (!graph) {
      const logits = this.#forward(inputs, maxSeqLen)
      return { logits: firstRows(logits, count, size), rows }
    }
    graph.replay()
    const { logits, greedy } = graph.result
    return { logits: firstRows(logits, count, size), greedy: firstRows(greedy, count, size), rows }
  }

  #forward(inputs: DecodeBatch, maxSeqLen: number): Tensor {
    return this.#model.call(inputs.inputIds, inputs.positions, this.#caches, inputs.metadata(maxSeqLen))
  }

  #inputs(size: number): DecodeBatch {
    let inputs = this.#batches.get(size)
    if (!inputs) {
      inputs = new DecodeBatch(size, this.#maxModelLen, this.#model.device)
      this.#batches.set(size, inputs)
    }
    return inputs
  }

  /** The graph of such a step; `undefined` where it has to run as it is. */
  #graph(inputs: DecodeBatch, maxSeqLen: number): CapturedStep<DecodeResult> | undefined {
    // A profile is to show modules and their ops, which a graph has no trace of.
    if (!this.#capture || profiling()) return undefined
    const key = `${inputs.size} ${maxSeqLen}`
    if (!this.#graphs.has(key)) {
      this.#graphs.set(key, undefined)
      return undefined
    }
    let graph = this.#graphs.get(key)
    if (!graph) {
      const step = () => {
        const logits = this.#forward(inputs, maxSeqLen)
        return { logits, greedy: torch.aten.argmax(logits, -1) }
      }
      const pool = [...this.#graphs.values()].find((captured) => captured !== undefined)
      graph = this.#capture(step, pool)
      this.#graphs.set(key, graph)
    }
    return graph
  }
}

function captureOn(device: string): Capture | undefined {
  if (!canCapture(device)) return undefined
  return (fn, pool) => capture(fn, { device, ...(pool instanceof Graph ? { pool } : {}) })
}

/** The rows that a step of `count` sequences is padded to: 1, 2, 4, then multiples of 8. */
export function paddedSize(count: number, most: number): number {
  const size = count <= 2 ? count : count <= 4 ? 4 : Math.ceil(count / 8) * 8
  return Math.min(size, most)
}

/** The longest sequence that a step is made for: 512 and its doubles. */
export function paddedLength(longest: number, most: number): number {
  let length = SHORTEST_GRAPH
  while (length < longest) length *= 2
  return Math.min(length, most)
}

function firstRows(tensor: Tensor, count: number, size: number): Tensor {
  return count === size ? tensor : tensor.narrow(0, 0, count)
}
