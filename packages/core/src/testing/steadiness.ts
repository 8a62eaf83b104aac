// SPDX-License-Identifier: Apache-2.0
//
// What kernels must not do over many calls: give other bits for the same input, or keep memory.
import {
  type AnyCard,
  type AnyCase,
  cards as allCards,
  type FloatDType,
  floatDTypes,
  memory,
  type OpArgument,
  scope,
  Tensor,
  torch,
  use,
} from '@vllm-ops/core'
import { NAMESPACE } from '@vllm-ops/core/internal'
import { CaseRunner } from './case-runner'
import { bytesOf } from './guarded'
import { type ConformanceReport, Recorder } from './recorder'
import type { RunOptions } from './run'

/**
 * Runs every case `times` times on the same input: each must leave the same bits as the first, in the outputs, in all memory around
 * them and in what is returned. A card that says why its op `varies` is left out.
 *
 * @throws {VllmOpsError} what `use` throws, when the backend cannot be used here
 */
export function repeatCases(options: RunOptions & { readonly times: number }): ConformanceReport {
  return eachOp(options, (card, runner, dtype, recorder) => {
    if (card.varies !== undefined) return
    for (const testCase of card.cases(dtype)) {
      if (testCase.mayRefuse !== undefined) continue
      const make = runner.maker(testCase, dtype)
      const once = () =>
        scope(() => {
          const { args, guarded } = make()
          const returned = callOp(runner, args)
          const memories = Array.from(guarded, ([name, tensor]) => [name, tensor.bytes()] as const)
          return [...memories, ...returned.map((tensor, i) => [`result ${i}`, bits(tensor)] as const)]
        })
      const problems = tryTo(() => {
        const first = once()
        for (let time = 2; time <= options.times; time++)
          for (const [i, [name, bytes]] of once().entries())
            if (Buffer.compare(first[i]?.[1] ?? new Uint8Array(), bytes) !== 0)
              return [`'${name}' has other bits in run ${time} than in the first`]
        return []
      })
      recorder.add(runner.schema.name, dtype, testCase.name, problems)
    }
  })
}

/**
 * Makes `calls` calls in all, the same number of each op in each dtype: what the device's allocator has handed out must be exactly the
 * same behind them as before.
 *
 * @throws {VllmOpsError} what `use` throws, when the backend cannot be used here
 */
export function countMemory(options: RunOptions & { readonly calls: number }): ConformanceReport {
  const { device = 'cpu', dtypes = floatDTypes } = options
  const share = Math.ceil(options.calls / (opsOf(options).length * dtypes.length))
  return eachOp(options, (card, runner, dtype, recorder) => {
    const testCase = firstCase(card, dtype)
    if (!testCase) return
    const problems = tryTo(() =>
      scope(() => {
        const { args } = runner.maker(testCase, dtype)()
        const call = () => scope(() => void callOp(runner, args))
        // The first call may make what is kept for good, such as a workspace of torch's.
        call()
        const before = memory.stats(device).allocated
        for (let i = 0; i < share; i++) call()
        const after = memory.stats(device).allocated
        return after === before
          ? []
          : [`${before} bytes were allocated before ${share} calls, ${after} after`]
      }),
    )
    recorder.add(runner.schema.name, dtype, `${share} calls`, problems)
  })
}

/** The cards that are to be run: of all, those chosen and supported. */
function opsOf({ backend, ops }: RunOptions): AnyCard[] {
  return allCards.filter(({ schema }) => {
    const name = schema.slice(0, schema.indexOf('('))
    return backend.unsupported?.[name] === undefined && (!ops || ops.includes(name))
  })
}

function eachOp(
  options: RunOptions,
  run: (card: AnyCard, runner: CaseRunner, dtype: FloatDType, recorder: Recorder) => void,
): ConformanceReport {
  const { backend, device = 'cpu', dtypes = floatDTypes } = options
  use(backend, { strict: true })
  const recorder = new Recorder(options.onResult)
  for (const card of opsOf(options)) {
    const runner = new CaseRunner(card, device)
    for (const dtype of dtypes) run(card, runner, dtype, recorder)
  }
  return recorder.report(backend, device)
}

/** A case that a kernel may not refuse and that has something to do. */
function firstCase(card: AnyCard, dtype: FloatDType): AnyCase | undefined {
  for (const testCase of card.cases(dtype)) if (testCase.mayRefuse === undefined) return testCase
  return undefined
}

function callOp({ schema }: CaseRunner, args: readonly OpArgument[]): Tensor[] {
  const result = torch[NAMESPACE]?.[schema.name]?.(...args)
  return [result].flat().filter((value) => value instanceof Tensor)
}

/** A copy of a tensor's elements, bit by bit. */
function bits(tensor: Tensor): Uint8Array {
  return bytesOf(tensor.to({ device: 'cpu' }).contiguous().data()).slice()
}

function tryTo(run: () => readonly string[]): readonly string[] {
  try {
    return run()
  } catch (error) {
    return [`threw ${error}`]
  }
}
