// SPDX-License-Identifier: Apache-2.0

/** What a token is, as `tokenizer.ggml.token_type` numbers it (llama.cpp's `llama_token_type`). */
export enum TokenType {
  normal = 1,
  unknown = 2,
  control = 3,
  userDefined = 4,
  unused = 5,
  byte = 6,
}

/**
 * Control tokens that end a generation wherever they occur. Files name only one or two of a model's ends in their metadata
 * (SmolLM2: `<|im_end|>`), so the others are known by their spelling, as in llama.cpp.
 */
const END_TOKENS: ReadonlySet<string> = new Set([
  '<|endoftext|>',
  '<|end_of_text|>',
  '<|im_end|>',
  '<|eot_id|>',
  '<|eom_id|>',
  '<|end|>',
  '<end_of_turn>',
  '<end_of_utterance>',
  '</s>',
  // The file is over where the next repository or file of the training data begins.
  '<reponame>',
  '<|repo_name|>',
  '<|file_sep|>',
])

/** The ends that the metadata names and the well-known ones, in ascending order. */
export function endOfGenerationIds(
  vocab: readonly string[],
  types: readonly TokenType[],
  named: readonly (number | undefined)[],
): number[] {
  const ids = new Set(named.filter((id) => id !== undefined))
  vocab.forEach((token, id) => {
    if (types[id] === TokenType.control && END_TOKENS.has(token)) ids.add(id)
  })
  return [...ids].sort((a, b) => a - b)
}
