// SPDX-License-Identifier: Apache-2.0
import { arange, type FloatDType, type OpArgument, rand, randn, type Tensor, torch } from '@vllm-ops/core'
import { BLOCK_SIZE, LLAMA_3_8B as llama } from '@vllm-ops/llama'

/** Calls of one op in the sizes that Llama 3 8B has. */
export interface KernelCase {
  /** As the table shows it. */
  readonly name: string
  readonly op: string
  /** Arguments for a number of tokens; they are fresh each time. */
  args(tokens: number, dtype: FloatDType): readonly OpArgument[]
  /** Whether it has to reach the target share of the copy bandwidth at the target's token count. */
  readonly hasTarget: boolean
  /** The one size of ops whose work is not per token. */
  readonly fixed?: { readonly tokens: number; readonly label: string }
}

const queryWidth = llama.numAttentionHeads * llama.headDim
const keyWidth = llama.numKeyValueHeads * llama.headDim

const SEQUENCES = 16
const CONTEXT = 1024

/** GGUF's numbers of block types, and the bytes of a block of 32 elements. */
const quantized = [
  { name: 'Q4_1', type: 3, bytes: 20 },
  { name: 'Q8_0', type: 8, bytes: 34 },
] as const

/** Rows of cosines, then sines. Those of real angles keep the length of what is rotated in place again and again. */
function cosSinCache(dtype: FloatDType): Tensor {
  const aten = torch.aten!
  const exponents = arange(0, llama.rotaryDim, { step: 2, dtype: 'float32' })
  const frequencies = aten.pow!(llama.ropeTheta, aten.div!(exponents, -llama.rotaryDim))
  const angles = aten.outer!(arange(0, llama.maxPositionEmbeddings, { dtype: 'float32' }), frequencies)
  return aten.cat!([aten.cos!(angles), aten.sin!(angles)], -1).to(dtype)
}

/** Elements of a head that lie side by side in a key cache: 16 bytes of them. */
function packing(dtype: FloatDType): number {
  return dtype === 'float32' ? 4 : 8
}

/** Caches of `blocks` blocks that hold numbers. */
function caches(blocks: number, dtype: FloatDType): [Tensor, Tensor] {
  const x = packing(dtype)
  return [
    randn([blocks, llama.numKeyValueHeads, llama.headDim / x, BLOCK_SIZE, x], { dtype }),
    randn([blocks, llama.numKeyValueHeads, llama.headDim, BLOCK_SIZE], { dtype }),
  ]
}

/** Blocks 0 to `count - 1` in an order that no prefetcher knows, int64. */
function shuffled(count: number): Tensor {
  return torch.aten!.randperm!(count, { dtype: 'int64' })
}

/** A slot for each token: whole blocks, one after the other in a shuffled order. */
function blockwise(tokens: number): Tensor {
  const blocks = Math.ceil(tokens / BLOCK_SIZE)
  const rows = shuffled(blocks).reshape([blocks, 1])
  const slots = torch.aten!.add!(torch.aten!.mul!(rows, BLOCK_SIZE), arange(0, BLOCK_SIZE))
  return slots.reshape([-1]).narrow(0, 0, tokens).contiguous()
}

function rotary(isNeox: boolean): KernelCase['args'] {
  return (tokens, dtype) => [
    arange(0, tokens),
    randn([tokens, queryWidth], { dtype }),
    randn([tokens, keyWidth], { dtype }),
    llama.headDim,
    cosSinCache(dtype),
    isNeox,
  ]
}

/** Blocks of quantized weights: random bytes would hold scales that are no numbers, so each 16-bit word is a small float16. */
function quantizedBytes(bytes: number): Tensor {
  return rand([bytes / 2], { dtype: 'float16' }).viewAs('uint8', [bytes])
}

/** An activation whose input is `factor` times as wide as its output. */
function activation(op: string, factor: number): KernelCase {
  return {
    name: op,
    op,
    hasTarget: true,
    args: (tokens, dtype) => [
      randn([tokens, llama.intermediateSize], { dtype }),
      randn([tokens, factor * llama.intermediateSize], { dtype }),
    ],
  }
}

export const kernelCases: readonly KernelCase[] = [
  ...['silu_and_mul', 'gelu_and_mul', 'gelu_tanh_and_mul'].map((op) => activation(op, 2)),
  ...['gelu_new', 'gelu_fast', 'gelu_quick'].map((op) => activation(op, 1)),
  {
    name: 'rms_norm',
    op: 'rms_norm',
    hasTarget: true,
    args: (tokens, dtype) => [
      randn([tokens, llama.hiddenSize], { dtype }),
      randn([tokens, llama.hiddenSize], { dtype }),
      randn([llama.hiddenSize], { dtype }),
      llama.rmsNormEps,
    ],
  },
  {
    name: 'fused_add_rms_norm',
    op: 'fused_add_rms_norm',
    hasTarget: true,
    args: (tokens, dtype) => [
      randn([tokens, llama.hiddenSize], { dtype }),
      randn([tokens, llama.hiddenSize], { dtype }),
      randn([llama.hiddenSize], { dtype }),
      llama.rmsNormEps,
    ],
  },
  { name: 'rotary_embedding, neox', op: 'rotary_embedding', hasTarget: true, args: rotary(true) },
  { name: 'rotary_embedding, gpt-j', op: 'rotary_embedding', hasTarget: true, args: rotary(false) },
  {
    name: 'reshape_and_cache',
    op: 'reshape_and_cache',
    hasTarget: true,
    args: (tokens, dtype) => {
      return [
        randn([tokens, llama.numKeyValueHeads, llama.headDim], { dtype }),
        randn([tokens, llama.numKeyValueHeads, llama.headDim], { dtype }),
        ...caches(Math.ceil(tokens / BLOCK_SIZE), dtype),
        blockwise(tokens),
        'auto',
        1,
      ]
    },
  },
  {
    name: 'reshape_and_cache_flash',
    op: 'reshape_and_cache_flash',
    hasTarget: true,
    args: (tokens, dtype) => {
      const blocks = Math.ceil(tokens / BLOCK_SIZE)
      const cache = () => randn([blocks, BLOCK_SIZE, llama.numKeyValueHeads, llama.headDim], { dtype })
      return [
        randn([tokens, llama.numKeyValueHeads, llama.headDim], { dtype }),
        randn([tokens, llama.numKeyValueHeads, llama.headDim], { dtype }),
        cache(),
        cache(),
        blockwise(tokens),
        'auto',
      ]
    },
  },
  {
    name: `paged_attention_v1, ${SEQUENCES} × ${CONTEXT}`,
    op: 'paged_attention_v1',
    hasTarget: false,
    fixed: { tokens: SEQUENCES, label: `${SEQUENCES}` },
    args: (tokens, dtype) => {
      const blocks = CONTEXT / BLOCK_SIZE
      return [
        randn([tokens, llama.numAttentionHeads, llama.headDim], { dtype }),
        randn([tokens, llama.numAttentionHeads, llama.headDim], { dtype }),
        ...caches(tokens * blocks, dtype),
        llama.numKeyValueHeads,
        llama.headDim ** -0.5,
        shuffled(tokens * blocks)
          .to('int32')
          .reshape([tokens, blocks]),
        torch.aten!.full!([tokens], CONTEXT, { dtype: 'int32' }),
        BLOCK_SIZE,
        CONTEXT,
        null,
        'auto',
        1,
        ...[0, 0, 0, 0, 0],
      ]
    },
  },
  {
    name: `skinny_linear, ${llama.hiddenSize} → ${llama.intermediateSize}`,
    op: 'skinny_linear',
    hasTarget: false,
    fixed: { tokens: 1, label: '1' },
    args: (tokens, dtype) => [
      randn([tokens, llama.intermediateSize], { dtype }),
      randn([tokens, llama.hiddenSize], { dtype }),
      randn([llama.intermediateSize, llama.hiddenSize], { dtype }),
    ],
  },
  ...quantized.map(
    ({ name, type, bytes }): KernelCase => ({
      name: `ggml_dequantize, ${name}`,
      op: 'ggml_dequantize',
      hasTarget: false,
      fixed: { tokens: 1, label: 'weight' },
      args: (_, dtype) => [
        quantizedBytes((llama.hiddenSize * llama.intermediateSize * bytes) / 32),
        type,
        llama.intermediateSize,
        llama.hiddenSize,
        dtype,
      ],
    }),
  ),
]
