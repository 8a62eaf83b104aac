// SPDX-License-Identifier: Apache-2.0
import { ArgumentError, empty, type Tensor } from '@vllm-ops/core'
import type { AttentionMetadata, DecodeMetadata, PrefillMetadata } from './attention-metadata'
import { blocksFor } from './kv-cache'

/** What sequences a forward pass is of, without their tokens. */
export interface BatchShape {
  /** Prompts, or pieces of them: the tokens to compute, and those that the cache holds from before (none where nothing is said). */
  readonly prefills?: readonly { readonly length: number; readonly contextLength?: number }[]
  /** The length of each sequence that generates a token, with that token. */
  readonly decodes?: readonly number[]
}

/** The inputs of a forward pass on the `meta` device, as {@link LlamaForCausalLM} takes them. */
export interface FakeBatch {
  readonly inputIds: Tensor
  readonly positions: Tensor
  readonly metadata: AttentionMetadata
  /** The last token of each sequence. */
  readonly logitsIndices: Tensor
}

/**
 * Inputs that have shapes and no values, for a model on the `meta` device: it runs every op of a real pass, and an argument that does not
 * fit is the error that it would be on a real device.
 *
 * @throws {ArgumentError} for a batch without a token, or a length that is no whole number
 */
export function fakeBatch({ prefills = [], decodes = [] }: BatchShape): FakeBatch {
  const check = (name: string, value: number, least: number) => {
    if (Number.isInteger(value) && value >= least) return
    throw new ArgumentError('fakeBatch', name, `a whole number of ${least} and more`, String(value))
  }
  for (const length of decodes) check('decodes', length, 1)
  let start = 0
  const pieces: PrefillMetadata[] = []
  for (const { length, contextLength = 0 } of prefills) {
    check('prefills', length, 1)
    check('prefills', contextLength, 0)
    const blocks = contextLength > 0 ? int64(blocksFor(contextLength + length)) : undefined
    pieces.push({ start, length, contextLength, blocks })
    start += length
  }
  const tokens = start + decodes.length
  if (tokens === 0) throw new ArgumentError('fakeBatch', 'prefills', 'at least one sequence', 'none')
  return {
    inputIds: int64(tokens),
    positions: int64(tokens),
    logitsIndices: int64(prefills.length + decodes.length),
    metadata: {
      slotMapping: int64(tokens),
      numPrefillTokens: start,
      prefills: pieces,
      decode: decodes.length > 0 ? decodeMetadata(decodes) : undefined,
    },
  }
}

function decodeMetadata(lengths: readonly number[]): DecodeMetadata {
  const numTokens = lengths.length
  const maxSeqLen = Math.max(...lengths)
  return {
    numTokens,
    blockTables: empty([numTokens, blocksFor(maxSeqLen)], { dtype: 'int32', device: 'meta' }),
    seqLens: empty([numTokens], { dtype: 'int32', device: 'meta' }),
    maxSeqLen,
  }
}

function int64(length: number): Tensor {
  return empty([length], { dtype: 'int64', device: 'meta' })
}
