// SPDX-License-Identifier: Apache-2.0
import { Random } from '../src/sampling/random'
import { type GgufSpec, ggmlBytes, type TensorSpec, type Value } from './gguf-writer'

/** A byte-level vocabulary: control tokens, the 256 bytes in GPT-2's spelling, a few merged words. */
export const TINY_CONTROL = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|im_start|>x']
const MERGES = ['l o', 'lo w', 'Ġ low', 'e r', '1 2', '12 3']
const BYTES = Array.from({ length: 256 }, (_, byte) => spelling(byte))

/** The metadata of a tokenizer with that vocabulary. */
export const tinyTokenizer = {
  'tokenizer.ggml.model': { type: 'string', value: 'gpt2' },
  'tokenizer.ggml.pre': { type: 'string', value: 'smollm' },
  'tokenizer.ggml.tokens': {
    type: 'strings',
    value: [...TINY_CONTROL, ...BYTES, ...MERGES.map((merge) => merge.replace(' ', ''))],
  },
  'tokenizer.ggml.token_type': {
    type: 'int32s',
    value: [...TINY_CONTROL.map(() => 3), ...BYTES.map(() => 1), ...MERGES.map(() => 1)],
  },
  'tokenizer.ggml.merges': { type: 'strings', value: MERGES },
  'tokenizer.ggml.bos_token_id': { type: 'uint32', value: 1 },
  'tokenizer.ggml.eos_token_id': { type: 'uint32', value: 2 },
  'tokenizer.chat_template': {
    type: 'string',
    value:
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% endfor %}",
  },
} as const satisfies Record<string, Value>

/** The id of a byte in that vocabulary. */
export const byteId = (byte: number) => TINY_CONTROL.length + byte

const VOCAB = tinyTokenizer['tokenizer.ggml.tokens'].value.length
const HIDDEN = 64
const INTERMEDIATE = 96
const HEADS = 4
const KV_HEADS = 2
const LAYERS = 2

/** A whole Llama of two layers with random weights, 60 KB: Q8_0 embedding, Q4_1 matrices, F32 norms. */
export function tinyModel(seed = 1): GgufSpec {
  const random = new Random(seed)
  const block = (layer: number): TensorSpec[] => [
    norm(`blk.${layer}.attn_norm.weight`),
    matrix(`blk.${layer}.attn_q.weight`, HIDDEN, HIDDEN),
    matrix(`blk.${layer}.attn_k.weight`, (HIDDEN / HEADS) * KV_HEADS, HIDDEN),
    matrix(`blk.${layer}.attn_v.weight`, (HIDDEN / HEADS) * KV_HEADS, HIDDEN),
    matrix(`blk.${layer}.attn_output.weight`, HIDDEN, HIDDEN),
    norm(`blk.${layer}.ffn_norm.weight`),
    matrix(`blk.${layer}.ffn_gate.weight`, INTERMEDIATE, HIDDEN),
    matrix(`blk.${layer}.ffn_up.weight`, INTERMEDIATE, HIDDEN),
    matrix(`blk.${layer}.ffn_down.weight`, HIDDEN, INTERMEDIATE),
  ]
  const norm = (name: string): TensorSpec => {
    const values = Float32Array.from({ length: HIDDEN }, () => 0.5 + random.uniform())
    return { name, shape: [HIDDEN], typeId: 0, data: new Uint8Array(values.buffer) }
  }
  /** Random quants, and each block's half-precision scale (and minimum) such that weights are around ±0.3. */
  const matrix = (name: string, rows: number, columns: number, typeId = 3): TensorSpec => {
    const data = new Uint8Array(ggmlBytes(typeId, [rows, columns])).map(() => random.next() & 0xff)
    const view = new DataView(data.buffer)
    const size = typeId === 3 ? 20 : 34
    for (let at = 0; at < data.length; at += size) {
      view.setUint16(at, typeId === 3 ? 0x2900 : 0x1900, true) // 0.039, 0.0024
      if (typeId === 3) view.setUint16(at + 2, 0xb4c0, true) // -0.297
    }
    return { name, shape: [rows, columns], typeId, data }
  }
  return {
    metadata: {
      'general.architecture': { type: 'string', value: 'llama' },
      'llama.block_count': { type: 'uint32', value: LAYERS },
      'llama.context_length': { type: 'uint32', value: 256 },
      'llama.embedding_length': { type: 'uint32', value: HIDDEN },
      'llama.feed_forward_length': { type: 'uint32', value: INTERMEDIATE },
      'llama.attention.head_count': { type: 'uint32', value: HEADS },
      'llama.attention.head_count_kv': { type: 'uint32', value: KV_HEADS },
      'llama.attention.layer_norm_rms_epsilon': { type: 'float32', value: 1e-5 },
      'llama.rope.freq_base': { type: 'float32', value: 10000 },
      ...tinyTokenizer,
    },
    tensors: [
      matrix('token_embd.weight', VOCAB, HIDDEN, 8),
      ...Array.from({ length: LAYERS }, (_, layer) => block(layer)).flat(),
      norm('output_norm.weight'),
    ],
  }
}

/** GPT-2's character for a byte, by its definition: the printable bytes first, the others from U+0100 on. */
function spelling(byte: number): string {
  const printable = (b: number) => (b > 32 && b < 127) || (b > 160 && b !== 173)
  if (printable(byte)) return String.fromCharCode(byte)
  const rank = Array.from({ length: byte }, (_, b) => b).filter((b) => !printable(b)).length
  return String.fromCharCode(256 + rank)
}
