// SPDX-License-Identifier: Apache-2.0
import { type AnyCard, cards, type FloatDType, type OpArgument, scope, Tensor, torch } from '@vllm-ops/core'
import { NAMESPACE } from '@vllm-ops/core/internal'
import { checkCall } from '../kernels/check'
import { type Baseline, copyMicroseconds, microseconds, setsFor } from './device-time'

/** A call to be measured on the device. */
export interface DeviceCase {
  readonly op: string
  /** As the table shows it. */
  readonly name: string
  readonly dtype: FloatDType
  /** What a row of the JSON is found by, beside op and dtype. */
  readonly shape: Readonly<Record<string, number>>
  /** Arguments on the device; each time others, in memory of their own. */
  args(): readonly OpArgument[]
  /** Error that is allowed beyond the card's tolerance. */
  readonly absolute?: number
}

/** What was measured of a call. */
export interface Measured {
  readonly us: number
  readonly least: number
  /** Bytes that have to be read and written, by the op's card. */
  readonly bytes: number
  readonly gbPerSecond: number
  /** The share of the bandwidth of a large copy on the device. */
  readonly ofCopy: number
  /** Microseconds of a copy that reads and writes as many bytes. */
  readonly sameCopyUs: number
  /** Microseconds more than the launch of a kernel that does next to nothing. */
  readonly overLaunch: number
}

type Call = (...args: OpArgument[]) => unknown

export function cardOf(op: string): AnyCard {
  const card = cards.find(({ schema }) => schema.startsWith(`${op}(`))
  if (!card) throw new Error(`no card of ${op}`)
  return card
}

export function callOf(op: string): Call {
  const found = torch[NAMESPACE]?.[op]?.default
  if (!found) throw new Error(`no op ${op}`)
  return found
}

/** Checks a case's results once, then measures it with its data in memory. Frees everything that it made. */
export function measureCase(
  { op, dtype, args, absolute = 0 }: Pick<DeviceCase, 'op' | 'dtype' | 'args' | 'absolute'>,
  { copyBandwidth, emptyLaunch }: Baseline,
  rounds: number,
): Measured {
  return scope(() => {
    const card = cardOf(op)
    const call = callOf(op)
    const first = args()
    // Sums of thousands of products: those of float32 are not exact enough to compare with.
    checkCall(card, first, call, dtype, { wide: 'float64', absolute })
    const { bytes } = card.cost(...first)
    const sets = [first, ...Array.from({ length: setsFor(bytes) - 1 }, args)]
    const calls = sets.map((set) => () => {
      const result = call(...set)
      if (result instanceof Tensor && !set.includes(result)) result.dispose()
    })
    const { median, least } = microseconds(calls, rounds)
    const gbPerSecond = bytes / median / 1e3
    return {
      us: median,
      least,
      bytes,
      gbPerSecond,
      ofCopy: gbPerSecond / copyBandwidth,
      sameCopyUs: copyMicroseconds(bytes, rounds),
      overLaunch: median - emptyLaunch,
    }
  })
}
