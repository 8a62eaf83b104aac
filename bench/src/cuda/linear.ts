// SPDX-License-Identifier: Apache-2.0
import { type FloatDType, randn, scope, torch } from '@vllm-ops/core'
import { LLAMA_3_8B as llama } from '@vllm-ops/llama'
import { number, percent, table } from '../table'
import { type Measured, measureCase } from './case'
import { type Baseline, DEVICE, microseconds, setsFor } from './device-time'

/** Weights of Llama 3 8B: [in, out]. */
const WEIGHTS = [
  ['q, k and v', llama.hiddenSize, (llama.numAttentionHeads + 2 * llama.numKeyValueHeads) * llama.headDim],
  ['o', llama.hiddenSize, llama.hiddenSize],
  ['gate and up', llama.hiddenSize, 2 * llama.intermediateSize],
  ['down', llama.intermediateSize, llama.hiddenSize],
  ['head', llama.hiddenSize, llama.vocabSize],
] as const

const TARGET_SHARE = 0.9
/** The error of one of a row's additions in float32, whose partial sums reach a few: results next to zero have the others' errors. */
const ADDITION_ERROR = 2 ** -22

interface Result extends Measured {
  readonly op: 'skinny_linear'
  readonly weight: string
  readonly inputs: number
  readonly outputs: number
  readonly tokens: number
  readonly dtype: FloatDType
  /** Microseconds of `aten::linear` on the same shapes. */
  readonly atenUs: number
  readonly target?: number
}

/** `skinny_linear` on each weight, beside aten's linear. */
export function measureLinear(
  base: Baseline,
  { tokens, dtypes, rounds }: { tokens: readonly number[]; dtypes: readonly FloatDType[]; rounds: number },
): Result[] {
  const results: Result[] = []
  for (const dtype of dtypes)
    for (const [weight, inputs, outputs] of WEIGHTS)
      for (const count of tokens) {
        const make = () => [
          randn([count, outputs], { dtype, device: DEVICE }),
          randn([count, inputs], { dtype, device: DEVICE }),
          randn([outputs, inputs], { dtype, device: DEVICE }),
        ]
        const measured = measureCase(
          { op: 'skinny_linear', dtype, args: make, absolute: inputs * ADDITION_ERROR },
          base,
          rounds,
        )
        results.push({
          op: 'skinny_linear',
          weight,
          inputs,
          outputs,
          tokens: count,
          dtype,
          ...measured,
          atenUs: atenMicroseconds(make, setsFor(measured.bytes), rounds),
          ...(count === 1 && dtype !== 'float32' ? { target: TARGET_SHARE } : {}),
        })
      }
  const lines = results.map((it) => [
    it.weight,
    it.dtype,
    `${it.tokens} × ${it.inputs} → ${it.outputs}`,
    number(it.us),
    number(it.gbPerSecond),
    percent(it.ofCopy),
    number(it.sameCopyUs),
    number(it.atenUs),
    it.target === undefined ? '' : `≥ ${percent(it.target)}: ${it.ofCopy >= it.target ? 'met' : 'missed'}`,
  ])
  const header = ['weight', 'dtype', 'shape', 'µs', 'GB/s', 'of the copy', 'copy µs', 'aten µs', 'target']
  process.stdout.write(`skinny_linear\n${table(header, lines, 3)}\n`)
  return results
}

function atenMicroseconds(make: () => ReturnType<typeof randn>[], sets: number, rounds: number): number {
  return scope(() => {
    const calls = Array.from({ length: sets }, () => {
      const [, input, weight] = make()
      return () => torch.aten.linear(input ?? null, weight ?? null).dispose()
    })
    return microseconds(calls, rounds).median
  })
}
