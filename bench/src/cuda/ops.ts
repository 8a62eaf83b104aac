// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from 'node:fs'
import {
  arange,
  cards,
  type FloatDType,
  hasKernel,
  memory,
  type OpArgument,
  ones,
  rand,
  randn,
  type Tensor,
  torch,
} from '@vllm-ops/core'
import { BLOCK_SIZE, LLAMA_3_8B as llama } from '@vllm-ops/llama'
import { number, percent, table } from '../table'
import { type DeviceCase, type Measured, measureCase } from './case'
import { type Baseline, DEVICE } from './device-time'

/** Large calls: their share of the copy's bandwidth; small ones: microseconds above the launch of a kernel that does nothing. */
const TARGET = { tokens: 4096, width: 4096, share: 0.9, smallTokens: 16, overLaunch: 2 } as const
const WIDTHS = [llama.hiddenSize, llama.intermediateSize] as const

interface Result extends Measured {
  readonly op: string
  readonly name: string
  readonly dtype: FloatDType
  readonly tokens: number
  readonly width: number
  /** Microseconds of torch.compile's version of the op. */
  readonly compiledUs?: number
  readonly target?: string
  readonly met?: boolean
}

/** An op whose work is per token and element of a row. */
interface Family {
  readonly op: string
  readonly name?: string
  /** Widths of a row of the result; those of Llama 3 8B where nothing is said. */
  readonly widths?: readonly number[]
  args(tokens: number, width: number, dtype: FloatDType): OpArgument[]
}

const on = (dtype: FloatDType) => ({ dtype, device: DEVICE }) as const

const gated = (op: string): Family => ({
  op,
  args: (tokens, width, dtype) => [randn([tokens, width], on(dtype)), randn([tokens, 2 * width], on(dtype))],
})
const pointwise = (op: string): Family => ({
  op,
  args: (tokens, width, dtype) => [randn([tokens, width], on(dtype)), randn([tokens, width], on(dtype))],
})

/** Rows of cosines, then sines, of real angles: they keep the length of what is rotated in place again and again. */
function cosSinCache(dtype: FloatDType): Tensor {
  const half = arange(0, llama.rotaryDim, { step: 2, dtype: 'float32', device: DEVICE })
  const frequencies = torch.aten.pow(llama.ropeTheta, torch.aten.div(half, -llama.rotaryDim))
  const positions = arange(0, llama.maxPositionEmbeddings, { dtype: 'float32', device: DEVICE })
  const angles = torch.aten.mul(positions.reshape([-1, 1]), frequencies)
  return torch.aten.cat([torch.aten.cos(angles), torch.aten.sin(angles)], -1).to(dtype)
}

/** Slots of whole blocks in an order that is no order. */
function slots(tokens: number): { slots: Tensor; blocks: number } {
  const blocks = Math.ceil(tokens / BLOCK_SIZE)
  const rows = torch.aten.randperm!(blocks, { dtype: 'int64', device: DEVICE }).reshape([blocks, 1])
  const all = torch.aten.add(torch.aten.mul(rows, BLOCK_SIZE), arange(0, BLOCK_SIZE, { device: DEVICE }))
  return { slots: all.reshape([-1]).narrow(0, 0, tokens).contiguous(), blocks }
}

/** Keys and values of Llama 3 8B, and of a model with as many heads for them as for queries. */
const CACHE_WIDTHS = [llama.numKeyValueHeads, llama.numAttentionHeads].map((heads) => heads * llama.headDim)

const rotary = (isNeox: boolean): Family => ({
  op: 'rotary_embedding',
  name: `rotary_embedding, ${isNeox ? 'neox' : 'gpt-j'}`,
  widths: [llama.numAttentionHeads * llama.headDim],
  args: (tokens, width, dtype) => [
    arange(0, tokens, { device: DEVICE }),
    randn([tokens, width], on(dtype)),
    randn([tokens, llama.numKeyValueHeads * llama.headDim], on(dtype)),
    llama.headDim,
    cosSinCache(dtype),
    isNeox,
  ],
})

const families: readonly Family[] = [
  ...['silu_and_mul', 'gelu_and_mul', 'gelu_tanh_and_mul'].map(gated),
  ...['gelu_new', 'gelu_fast', 'gelu_quick'].map(pointwise),
  {
    op: 'rms_norm',
    args: (tokens, width, dtype) => [
      randn([tokens, width], on(dtype)),
      randn([tokens, width], on(dtype)),
      randn([width], on(dtype)),
      llama.rmsNormEps,
    ],
  },
  {
    op: 'fused_add_rms_norm',
    args: (tokens, width, dtype) => [
      randn([tokens, width], on(dtype)),
      randn([tokens, width], on(dtype)),
      // As it is: the residual takes up the input at each call, and stays small.
      ones([width], on(dtype)),
      llama.rmsNormEps,
    ],
  },
  rotary(true),
  rotary(false),
  {
    op: 'reshape_and_cache',
    widths: CACHE_WIDTHS,
    args: (tokens, width, dtype) => {
      const { blocks, slots: places } = slots(tokens)
      const heads = width / llama.headDim
      const x = dtype === 'float32' ? 4 : 8
      return [
        randn([tokens, heads, llama.headDim], on(dtype)),
        randn([tokens, heads, llama.headDim], on(dtype)),
        randn([blocks, heads, llama.headDim / x, BLOCK_SIZE, x], on(dtype)),
        randn([blocks, heads, llama.headDim, BLOCK_SIZE], on(dtype)),
        places,
        'auto',
        1,
      ]
    },
  },
  {
    op: 'reshape_and_cache_flash',
    widths: CACHE_WIDTHS,
    args: (tokens, width, dtype) => {
      const { blocks, slots: places } = slots(tokens)
      const heads = width / llama.headDim
      const shape = [blocks, BLOCK_SIZE, heads, llama.headDim]
      return [
        randn([tokens, heads, llama.headDim], on(dtype)),
        randn([tokens, heads, llama.headDim], on(dtype)),
        randn(shape, on(dtype)),
        randn(shape, on(dtype)),
        places,
        'auto',
      ]
    },
  },
  ...[
    { name: 'Q4_1', type: 3, bytes: 20 },
    { name: 'Q8_0', type: 8, bytes: 34 },
  ].map(
    ({ name, type, bytes }): Family => ({
      op: 'ggml_dequantize',
      name: `ggml_dequantize, ${name}`,
      args: (tokens, width, dtype) => [
        // Random bytes would hold scales that are no numbers, so each 16-bit word is a small float16.
        rand([(tokens * width * bytes) / 64], { dtype: 'float16', device: DEVICE }).viewAs('uint8', [
          (tokens * width * bytes) / 32,
        ]),
        type,
        tokens,
        width,
        dtype,
      ],
    }),
  ),
]

function deviceCases(tokens: readonly number[], dtypes: readonly FloatDType[], ops: readonly string[]) {
  const known = new Set(cards.map(({ schema }) => schema.slice(0, schema.indexOf('('))))
  return families
    .filter(({ op }) => ops.length === 0 || ops.includes(op))
    .filter(({ op }) => known.has(op) && hasKernel(`vllm_ops::${op}`, 'CUDA'))
    .flatMap((family) =>
      dtypes.flatMap((dtype) =>
        tokens.flatMap((count) =>
          (family.widths ?? WIDTHS).map(
            (width): DeviceCase & { shape: { tokens: number; width: number } } => ({
              op: family.op,
              name: family.name ?? family.op,
              dtype,
              shape: { tokens: count, width },
              args: () => family.args(count, width, dtype),
            }),
          ),
        ),
      ),
    )
}

/** Microseconds by op, dtype, tokens and width, as bench/python/compile_peers.py prints them. */
type Peers = readonly { op: string; dtype: string; tokens: number; width: number; us: number }[]

/** The ops whose work is per token, at each number of tokens, beside torch.compile's where `peers` is the file of its times. */
export function measureOps(
  base: Baseline,
  options: {
    tokens: readonly number[]
    dtypes: readonly FloatDType[]
    ops: readonly string[]
    rounds: number
    peers?: string
  },
): { results: Result[]; geometricMean?: number } {
  const peers: Peers = options.peers ? JSON.parse(readFileSync(options.peers, 'utf8')) : []
  const results = deviceCases(options.tokens, options.dtypes, options.ops).map((it): Result => {
    const measured = measureCase(it, base, options.rounds)
    memory.emptyCache()
    const { tokens, width } = it.shape
    const peer = peers.find(
      (row) =>
        (row.op === it.name || row.op === it.op) &&
        row.dtype === it.dtype &&
        row.tokens === tokens &&
        row.width === width,
    )
    const target =
      tokens >= TARGET.tokens && width >= TARGET.width
        ? { target: `≥ ${percent(TARGET.share)}`, met: measured.ofCopy >= TARGET.share }
        : tokens <= TARGET.smallTokens && it.op !== 'ggml_dequantize'
          ? { target: `≤ ${TARGET.overLaunch} µs more`, met: measured.overLaunch <= TARGET.overLaunch }
          : {}
    const compiled = peer ? { compiledUs: peer.us } : {}
    return { op: it.op, name: it.name, dtype: it.dtype, tokens, width, ...measured, ...compiled, ...target }
  })
  const ratios = results.flatMap(({ compiledUs, us }) => (compiledUs === undefined ? [] : [compiledUs / us]))
  const lines = results.map((it) => [
    it.name,
    it.dtype,
    `${it.tokens} × ${it.width}`,
    number(it.us),
    number(it.gbPerSecond),
    percent(it.ofCopy),
    number(it.sameCopyUs),
    number(it.overLaunch),
    it.compiledUs === undefined ? '' : `${number(it.compiledUs / it.us)} ×`,
    it.target === undefined ? '' : `${it.target}: ${it.met ? 'met' : 'missed'}`,
  ])
  const header = [
    'op',
    'dtype',
    'shape',
    'µs',
    'GB/s',
    'of the copy',
    'copy µs',
    'over launch µs',
    'torch.compile',
    'target',
  ]
  process.stdout.write(`ops\n${table(header, lines, 3)}\n`)
  if (ratios.length === 0) return { results }
  const geometricMean = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length)
  const worst = Math.min(...ratios)
  process.stdout.write(
    `torch.compile: geometric mean ${number(geometricMean)} ×, least ${number(worst)} ×\n\n`,
  )
  return { results, geometricMean }
}
