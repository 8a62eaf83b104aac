// SPDX-License-Identifier: Apache-2.0
import { fromTypedArray, type Tensor, type TypedArray } from '@vllm-ops/core'
import type { AttentionMetadata, DecodeMetadata, PrefillMetadata } from '../attention-metadata'
import { BLOCK_SIZE, blocksFor } from '../kv-cache'
import type { ScheduledSequence } from './scheduler'
import type { Sequence } from './sequence'

/** What one forward pass gets. */
export interface ModelInput {
  readonly inputIds: Tensor
  readonly positions: Tensor
  readonly metadata: AttentionMetadata
  /** The tokens in the batch whose logits are wanted; left out where that is all of them. */
  readonly logitsIndices: Tensor | undefined
  /** What each row of the logits is for. */
  readonly rows: readonly LogitsRow[]
}

/** One row of logits. */
export interface LogitsRow {
  readonly sequence: Sequence
  /** The place in the sequence of the token whose successor the row predicts. */
  readonly position: number
}

/** Lays a step's sequences out as one batch: prompts first, then generating sequences, each in the given order. */
export function prepareInput(batch: readonly ScheduledSequence[], device: string): ModelInput {
  const isDecode = ({ sequence, numTokens }: ScheduledSequence) => numTokens === 1 && sequence.numComputed > 0
  const prefills = batch.filter((scheduled) => !isDecode(scheduled))
  const decodes = batch.filter(isDecode)
  const total = batch.reduce((sum, { numTokens }) => sum + numTokens, 0)
  const onDevice = (array: TypedArray, shape?: readonly number[]) =>
    fromTypedArray(array, shape).to({ device })

  const inputIds = new BigInt64Array(total)
  const positions = new BigInt64Array(total)
  const slots = new BigInt64Array(total)
  const rows: LogitsRow[] = []
  const indices: number[] = []
  const prefillMetadata: PrefillMetadata[] = []
  let next = 0
  for (const scheduled of [...prefills, ...decodes]) {
    const { sequence, numTokens } = scheduled
    const { numComputed, blocks, tokenIds, promptLength, params } = sequence
    if (next < total - decodes.length) {
      const used = blocks.slice(0, blocksFor(numComputed + numTokens))
      prefillMetadata.push({
        start: next,
        length: numTokens,
        contextLength: numComputed,
        blocks: numComputed > 0 ? onDevice(BigInt64Array.from(used, BigInt)) : undefined,
      })
    }
    for (let position = numComputed; position < numComputed + numTokens; position++) {
      inputIds[next] = BigInt(tokenIds[position]!)
      positions[next] = BigInt(position)
      slots[next] = BigInt(blocks[Math.floor(position / BLOCK_SIZE)]! * BLOCK_SIZE + (position % BLOCK_SIZE))
      // Not again where a sequence that had to give its blocks back computes its prompt a second time.
      const scoresPrompt = params.promptLogprobs !== undefined && sequence.promptLogprobs.length <= position
      if (position + 1 === tokenIds.length || (scoresPrompt && position + 1 < promptLength)) {
        rows.push({ sequence, position })
        indices.push(next)
      }
      next++
    }
  }
  return {
    inputIds: onDevice(inputIds),
    positions: onDevice(positions),
    rows,
    logitsIndices: indices.length === total ? undefined : onDevice(BigInt64Array.from(indices, BigInt)),
    metadata: {
      slotMapping: onDevice(slots),
      numPrefillTokens: total - decodes.length,
      prefills: prefillMetadata,
      decode: decodes.length > 0 ? decodeMetadata(decodes, onDevice) : undefined,
    },
  }
}

function decodeMetadata(
  decodes: readonly ScheduledSequence[],
  onDevice: (array: TypedArray, shape?: readonly number[]) => Tensor,
): DecodeMetadata {
  const lengths = decodes.map(({ sequence }) => sequence.numComputed + 1)
  const width = Math.max(...decodes.map(({ sequence }) => sequence.blocks.length))
  const tables = new Int32Array(decodes.length * width)
  for (const [i, { sequence }] of decodes.entries()) tables.set(sequence.blocks, i * width)
  return {
    numTokens: decodes.length,
    blockTables: onDevice(tables, [decodes.length, width]),
    seqLens: onDevice(Int32Array.from(lengths)),
    maxSeqLen: Math.max(...lengths),
  }
}
