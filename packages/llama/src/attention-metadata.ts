// SPDX-License-Identifier: Apache-2.0
import type { Tensor } from '@vllm-ops/core'

/**
 * Which tokens of a batch belong to which sequence, and where in the paged cache their keys and values go. The tokens of
 * sequences that are in their prompt come first, those of sequences that generate (one each) after them.
 */
export interface AttentionMetadata {
  /** int64 `[tokens]`: block · blockSize + offset in the block. */
  readonly slotMapping: Tensor
  /** Tokens of prompts: those before the generating ones. */
  readonly numPrefillTokens: number
  readonly prefills: readonly PrefillMetadata[]
  /** Left out when no sequence generates. */
  readonly decode: DecodeMetadata | undefined
}

/** A prompt, or a piece of one that continues what the cache already holds. */
export interface PrefillMetadata {
  /** Its first token in the batch. */
  readonly start: number
  /** Tokens in the batch. */
  readonly length: number
  /** Tokens of the sequence that are in the cache from before. */
  readonly contextLength: number
  /** int64: the sequence's blocks, up to the last token of this piece. Left out where nothing is in the cache. */
  readonly blocks: Tensor | undefined
}

/** The generating sequences, one token each. */
export interface DecodeMetadata {
  readonly numTokens: number
  /** int32 `[sequences, longest number of blocks]` */
  readonly blockTables: Tensor
  /** int32 `[sequences]`: lengths including the token of this batch. */
  readonly seqLens: Tensor
  readonly maxSeqLen: number
}
