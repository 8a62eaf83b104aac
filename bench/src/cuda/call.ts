// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { cards, type OpArgument, ones, scope, synchronizeSync, zeros } from '@vllm-ops/core'
import { libtorch } from '@vllm-ops/core/internal'
import cuda from '@vllm-ops/cuda'
import { LLAMA_3_8B as llama } from '@vllm-ops/llama'
import { number, table } from '../table'
import { callOf } from './case'
import { DEVICE } from './device-time'

const TARGET_RATIO = 0.7
/** Calls queued before the device is waited for: fewer than a stream holds, so that queueing never waits. */
const CALLS = 200
/** A round takes milliseconds, and one that nothing disturbs is wanted. */
const LEAST_ROUNDS = 50
/** The two sides take turns, so that neither has a machine's slower minutes to itself. */
const TURNS = 3

/** A tensor of zeros (`int…`) or ones, in a form that Python reads too. */
interface TensorArgument {
  readonly tensor: readonly number[]
  readonly dtype: 'bfloat16' | 'int32' | 'int64'
}

interface Row {
  readonly op: string
  readonly args: readonly (TensorArgument | number | string | boolean | null)[]
}

const floats = (...tensor: number[]): TensorArgument => ({ tensor, dtype: 'bfloat16' })
const { hiddenSize: width, headDim: size, numKeyValueHeads: kvHeads, numAttentionHeads: heads } = llama

/** One token's calls, whose time on the device is less than the host's. */
const rows: readonly Row[] = [
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

interface Result {
  readonly op: string
  readonly nodeUs: number
  readonly pythonUs?: number
}

function isTensor(argument: Row['args'][number]): argument is TensorArgument {
  return typeof argument === 'object' && argument !== null
}

function made(argument: Row['args'][number]): OpArgument {
  if (!isTensor(argument)) return argument
  const { tensor: shape, dtype } = argument
  return (dtype === 'bfloat16' ? ones : zeros)(shape, { dtype, device: DEVICE })
}

/** Microseconds that the host is busy with one call: the least of the rounds, since what else a machine runs only ever adds. */
function fromNode({ op, args }: Row, rounds: number): number {
  return scope(() => {
    const call = callOf(op)
    const values = args.map(made)
    const sample = () => {
      synchronizeSync(DEVICE)
      const start = process.hrtime.bigint()
      for (let i = 0; i < CALLS; i++) call(...values)
      return Number(process.hrtime.bigint() - start) / CALLS / 1000
    }
    for (let i = 0; i < 10; i++) sample()
    const samples = Array.from({ length: rounds }, sample)
    synchronizeSync(DEVICE)
    return Math.min(...samples)
  })
}

/** The same from Python, where the interpreter (`PYTHON`, else python3) has a torch of this version with CUDA. */
function fromPython(rounds: number): Readonly<Record<string, number>> | undefined {
  const python = process.env.PYTHON ?? 'python3'
  const script = fileURLToPath(new URL('../python/cuda_call.py', import.meta.url))
  const input = JSON.stringify({
    calls: CALLS,
    rounds,
    library: cuda.library,
    schemas: cards.map(({ schema }) => schema),
    rows,
  })
  const { status, stdout, stderr } = spawnSync(python, [script], { input, encoding: 'utf8' })
  if (status === 0) return JSON.parse(stdout)
  process.stderr.write(`not measured from Python (${python}, torch ${libtorch().version}):\n${stderr ?? ''}`)
  return undefined
}

/** What a call costs the host from Node and from Python. */
export function measureCalls(options: { rounds: number }): Result[] {
  const rounds = Math.max(options.rounds, LEAST_ROUNDS)
  const fromNodes: number[][] = []
  const fromPythons: Readonly<Record<string, number>>[] = []
  let python: Readonly<Record<string, number>> | undefined
  do {
    python = fromPython(rounds)
    if (python) fromPythons.push(python)
    fromNodes.push(rows.map((row) => fromNode(row, rounds)))
  } while (python && fromNodes.length < TURNS) // without Python there is nothing to take turns with
  const results = rows.map(
    ({ op }, i): Result => ({
      op,
      nodeUs: Math.min(...fromNodes.map((turn) => turn[i]!)),
      ...(fromPythons.length > 0 ? { pythonUs: Math.min(...fromPythons.map((turn) => turn[op]!)) } : {}),
    }),
  )
  const lines = results.map(({ op, nodeUs, pythonUs }) => {
    const ratio = pythonUs === undefined ? undefined : nodeUs / pythonUs
    const verdict =
      ratio === undefined ? '' : `≤ ${TARGET_RATIO}: ${ratio <= TARGET_RATIO ? 'met' : 'missed'}`
    return [op, number(nodeUs), number(pythonUs), number(ratio), verdict]
  })
  const header = ['op', 'Node µs', 'Python µs', 'ratio', 'target']
  process.stdout.write(`host time of a call\n${table(header, lines)}\n`)
  return results
}
