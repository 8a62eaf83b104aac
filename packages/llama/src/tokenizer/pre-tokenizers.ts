// SPDX-License-Identifier: Apache-2.0

/** How a vocabulary splits text before byte-pair merging, under the names that GGUF files use (`tokenizer.ggml.pre`). */
export interface PreTokenizer {
  /** Each pattern splits the pieces that the ones before it left; both matches and what lies between them are pieces. */
  readonly patterns: readonly string[]
  /** A piece that is a token of the vocabulary is taken as it is, whatever the merges say. */
  readonly ignoreMerges: boolean
  /** Whether a beginning-of-sequence token is added when the file does not say. */
  readonly addBos: boolean
}

// GPT-2's pattern. Its last alternative there, `|\s+`, is what lies between the matches here.
const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)`

// Llama 3's pattern, its case-insensitive group written out.
const LLAMA3 = String.raw`(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`

const smollm: PreTokenizer = { patterns: [String.raw`\p{N}`, GPT2], ignoreMerges: false, addBos: false }
const llama3: PreTokenizer = { patterns: [LLAMA3], ignoreMerges: true, addBos: true }
const gpt2: PreTokenizer = { patterns: [GPT2], ignoreMerges: false, addBos: false }
/** What llama.cpp uses for files from before there were names. */
const unnamed: PreTokenizer = {
  patterns: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2, String.raw`\p{N}+`, '[0-9][0-9][0-9]'],
  ignoreMerges: false,
  addBos: false,
}

/** The supported pre-tokenizers. They are defined by llama.cpp, where these names come from. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizer> = new Map([
  ['smollm', smollm],
  ['llama-bpe', llama3],
  ['llama3', llama3],
  ['llama-v3', llama3],
  ['gpt-2', gpt2],
  ['default', unnamed],
])
