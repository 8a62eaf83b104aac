// SPDX-License-Identifier: Apache-2.0
import { VllmOpsError } from '@vllm-ops/core'

/** A model file is truncated, corrupt, hostile or of a kind that is not supported. Code `E_MODEL_FORMAT`. */
export class ModelFormatError extends VllmOpsError {
  override readonly name = 'ModelFormatError'
  /** The model file. */
  readonly file: string
  /** What in the file: a metadata key, a tensor, a byte offset. */
  readonly where: string

  constructor(info: { file: string; where: string; message: string; fix?: string; cause?: unknown }) {
    const { file, where, message, cause } = info
    const fix = info.fix ?? 'Download the file again, or convert the model with a current llama.cpp'
    super('E_MODEL_FORMAT', `${file}: ${where}: ${message}`, { fix, cause })
    this.file = file
    this.where = where
  }
}

/** A sequence does not fit into the model's context or into the KV cache. Code `E_CONTEXT_LENGTH`. */
export class ContextLengthError extends VllmOpsError {
  override readonly name = 'ContextLengthError'
  /** Tokens that would be needed. */
  readonly tokens: number
  /** Tokens that there is room for. */
  readonly limit: number

  constructor(tokens: number, limit: number) {
    super('E_CONTEXT_LENGTH', `${tokens} tokens do not fit into the context of ${limit}`, {
      fix: 'Shorten the prompt, or load the model with a larger maxModelLen (up to what it was trained for)',
    })
    this.tokens = tokens
    this.limit = limit
  }
}
