// SPDX-License-Identifier: Apache-2.0
import { type DType, full, type Tensor, torch } from '@vllm-ops/core'

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
  /** What {@link attnBias} makes of it; the model adds it, once for all layers. */
  readonly attnBias?: Tensor | undefined
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

/**
 * What is added to the logits of a piece of a prompt, `[length, contextLength + length]`: its first token may look at the context and itself,
 * each further one at one token more. 0 where it may, -Infinity elsewhere.
 */
export function attnBias({ length, contextLength }: PrefillMetadata, dtype: DType, device: string): Tensor {
  const total = contextLength + length
  // Kernels take rows that begin at multiples of 16 elements; others are copied for them, by every layer.
  const width = Math.ceil(total / 16) * 16
  const nowhere = full([length, width], Number.NEGATIVE_INFINITY, { dtype, device })
  return torch.aten.triu(nowhere, contextLength + 1).narrow(1, 0, total)
}

/** The metadata with the biases of those prompts that need one. The caller frees them (`scope`). */
export function withAttnBiases(metadata: AttentionMetadata, dtype: DType, device: string): AttentionMetadata {
  if (metadata.prefills.every(({ blocks }) => blocks === undefined)) return metadata
  const prefills = metadata.prefills.map((prefill) =>
    prefill.blocks ? { ...prefill, attnBias: attnBias(prefill, dtype, device) } : prefill,
  )
  return { ...metadata, prefills }
}
