// SPDX-License-Identifier: Apache-2.0
import { LLAMA_3_8B as llama } from '@vllm-ops/llama'

/** What the programs that measure calls read on stdin; they print the microseconds of each op. */
export interface CallRequest {
  /** Calls that are queued before the device is waited for. */
  readonly calls: number
  readonly rounds: number
  /** The kernel library's file, and the schemas of its ops. */
  readonly library: string | undefined
  readonly schemas: readonly string[]
  readonly rows: readonly Row[]
}

/** A tensor of zeros (`int…`) or ones, in a form that Python reads too. */
export interface TensorArgument {
  readonly tensor: readonly number[]
  readonly dtype: 'bfloat16' | 'int32' | 'int64'
}

/** A call: an op and its arguments. */
export interface Row {
  readonly op: string
  readonly args: readonly (TensorArgument | number | string | boolean | null)[]
}

const floats = (...tensor: number[]): TensorArgument => ({ tensor, dtype: 'bfloat16' })
const { hiddenSize: width, headDim: size, numKeyValueHeads: kvHeads, numAttentionHeads: heads } = llama

/** One token's calls, whose time on the device is less than the host's. */
export const rows: readonly Row[] = [
  { op: 'silu_and_mul', args: [floats(1, width), floats(1, 2 * width)] },
  { op: 'rms_norm', args: [floats(1, width), floats(1, width), floats(width), 1e-5] },
  { op: 'fused_add_rms_norm', args: [floats(1, width), floats(1, width), floats(width), 1e-5] },
  {
    op: 'rotary_embedding',
    args: [
      { tensor: [1], dtype: 'int64' },
      floats(1, heads * size),
      floats(1, kvHeads * size),
      size,
      floats(16, size),
      true,
    ],
  },
  {
    op: 'reshape_and_cache',
    args: [
      floats(1, kvHeads, size),
      floats(1, kvHeads, size),
      floats(4, kvHeads, size / 8, 16, 8),
      floats(4, kvHeads, size, 16),
      { tensor: [1], dtype: 'int64' },
      'auto',
      1,
    ],
  },
  {
    op: 'paged_attention_v1',
    args: [
      ...[floats(1, heads, size), floats(1, heads, size)],
      ...[floats(4, kvHeads, size / 8, 16, 8), floats(4, kvHeads, size, 16)],
      ...[
        kvHeads,
        size ** -0.5,
        { tensor: [1, 4], dtype: 'int32' } as const,
        { tensor: [1], dtype: 'int32' } as const,
      ],
      ...[16, 64, null, 'auto', 1, 0, 0, 0, 0, 0],
    ],
  },
  { op: 'skinny_linear', args: [floats(1, 256), floats(1, 256), floats(256, 256)] },
]
