// SPDX-License-Identifier: Apache-2.0
import { type AnyCard, empty, type FloatDType, type OpArgument, Tensor, torch, zeros } from '@vllm-ops/core'
import { NAMESPACE } from '@vllm-ops/core/internal'
import { calibrate, nanoseconds, type Summary, summarize } from '../statistics'
import type { KernelCase } from './calls'
import { checkCall } from './check'

/** Calls that touch more than this are measured with their data in memory, the others with it in the caches. */
const IN_CACHE_BYTES = 1 << 20
/** Several sets of arguments used in turn, together larger than any cache. */
const OUT_OF_CACHE_BYTES = 256 << 20
/** A sample takes about this long. */
const SAMPLE_MS = 20

/** How long a call takes, and how fast it and a copy of the same bytes move them. */
export interface Measurement {
  /** Per call. */
  readonly ns: Summary
  /** `aten::copy_` of half as many bytes in the same dtype, which moves the same number: read and written once each. */
  readonly copyNs: Summary
  readonly bytes: number
  readonly flops: number
  /** The call's share of the copy's bandwidth, by medians. */
  readonly share: number
}

type Call = (...args: OpArgument[]) => unknown

/** A case of one size, with its arguments made and its results checked, ready to be measured. */
export class PreparedCase {
  readonly #call: Call
  readonly #sets: (readonly OpArgument[])[]
  readonly #copies: [Tensor, Tensor][]
  readonly #cost: { bytes: number; flops: number }

  constructor(kernel: KernelCase, card: AnyCard, tokens: number, dtype: FloatDType) {
    const found = torch[NAMESPACE]?.[kernel.op]?.default
    if (!found) throw new Error(`no op ${kernel.op}`)
    this.#call = found
    const first = kernel.args(tokens, dtype)
    checkCall(card, first, found, dtype)
    this.#cost = card.cost(...first)
    this.#sets = several(footprint(first), first, () => kernel.args(tokens, dtype))
    const half = Math.ceil(this.#cost.bytes / 2 / empty([0], { dtype }).itemsize)
    const pair = (): [Tensor, Tensor] => [zeros([half], { dtype }), empty([half], { dtype })]
    this.#copies = several(this.#cost.bytes, pair(), pair)
  }

  /** Samples of the call and of the copy in turn. */
  measure(rounds: number): Measurement {
    const call = inTurn(this.#sets, (args) => {
      const result = this.#call(...args)
      if (result instanceof Tensor && !args.includes(result)) result.dispose()
    })
    const copyOp: Call = torch.aten!.copy_!.default!
    const copy = inTurn(this.#copies, ([from, to]) => copyOp(to, from))
    const [callRepeat, copyRepeat] = [calibrate(call, SAMPLE_MS), calibrate(copy, SAMPLE_MS)]
    const samples = { call: [] as number[], copy: [] as number[] }
    for (let round = 0; round < rounds; round++) {
      samples.call.push(nanoseconds(call, callRepeat))
      samples.copy.push(nanoseconds(copy, copyRepeat))
    }
    const ns = summarize(samples.call)
    const copyNs = summarize(samples.copy)
    return { ns, copyNs, ...this.#cost, share: copyNs.median / ns.median }
  }
}

/** `first` alone if it fits into a cache, else as many as do not. */
function several<T>(bytes: number, first: T, another: () => T): T[] {
  const count = bytes <= IN_CACHE_BYTES ? 1 : Math.ceil(OUT_OF_CACHE_BYTES / bytes)
  return [first, ...Array.from({ length: count - 1 }, another)]
}

function footprint(args: readonly OpArgument[]): number {
  return args.reduce<number>((total, arg) => total + (arg instanceof Tensor ? arg.nbytes : 0), 0)
}

/** A function that calls `body` with the next element each time. */
function inTurn<T>(list: readonly T[], body: (element: T) => unknown): () => void {
  let next = 0
  return () => {
    body(list[next]!)
    next = next + 1 === list.length ? 0 : next + 1
  }
}
