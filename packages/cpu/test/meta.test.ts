// SPDX-License-Identifier: Apache-2.0
//
// What an op makes on the meta device is what its kernel makes, and what it refuses there is what the kernel refuses.
import {
  ArgumentError,
  type CaseValue,
  cards,
  empty,
  type OpArgument,
  parseSchema,
  Tensor,
  type TensorSpec,
  torch,
  use,
} from '@vllm-ops/core'
import { SeededRandom } from '@vllm-ops/core/testing'
import { beforeAll, describe, expect, it } from 'vitest'
import cpu from '../src/index'

/** Hundreds of cases an op, on a machine that may be busy. */
const TIMEOUT = 60_000

beforeAll(() => {
  use(cpu, { strict: true })
})

function isList(value: CaseValue): value is readonly TensorSpec[] {
  return Array.isArray(value)
}

function isSpec(value: CaseValue): value is TensorSpec {
  return typeof value === 'object' && value !== null && !isList(value)
}

/** A tensor as a case describes it; on the CPU with its values, which may be indices. */
function make(spec: TensorSpec, device: 'cpu' | 'meta', random: SeededRandom): Tensor {
  const { shape, dtype } = spec
  const strides = spec.strides ?? empty(shape, { device: 'meta' }).strides
  const made = torch.aten.empty_strided!(shape, strides, { dtype, device })
  if (device === 'meta') return made
  const count = shape.reduce((product, size) => product * size, 1)
  const values = Float64Array.from({ length: count }, (_, i) => spec.fill(i, random))
  return made.copy_(torch.aten.reshape!(fromValues(values), shape))
}

function fromValues(values: Float64Array): Tensor {
  const x = empty([values.length], { dtype: 'float64' })
  ;(x.data() as Float64Array).set(values)
  return x
}

function describeAll(values: readonly unknown[]): unknown[] {
  return values
    .flat()
    .map((value) => (value instanceof Tensor ? [value.dtype, value.shape, value.strides] : typeof value))
}

// Ops without a tensor have no shapes to tell.
describe.each(cards.filter(({ reference }) => reference))('$schema', (card) => {
  const { name, arguments: parameters } = parseSchema(card.schema)
  const argumentsOf = (args: Readonly<Record<string, CaseValue>>, device: 'cpu' | 'meta'): OpArgument[] => {
    const random = new SeededRandom(name)
    return parameters.map((parameter) => {
      const value = args[parameter.name] ?? null
      const place = card.anyDevice?.includes(parameter.name) ? 'cpu' : device
      if (isList(value)) return value.map((spec) => make(spec, place, random))
      return isSpec(value) ? make(value, place, random) : value
    })
  }
  const run = (args: OpArgument[]) => describeAll([torch.vllm_ops![name]!<unknown>(...args)].flat())

  it.skipIf(cpu.unsupported?.[name] !== undefined)(
    'makes on meta what the CPU kernel makes',
    { timeout: TIMEOUT },
    () => {
      let ran = 0
      for (const testCase of card.cases('bfloat16')) {
        if (testCase.mayRefuse !== undefined) continue
        const real = argumentsOf(testCase.args, 'cpu')
        const fake = argumentsOf(testCase.args, 'meta')
        expect(run(fake), testCase.name).toEqual(run(real))
        expect(describeAll(fake), testCase.name).toEqual(describeAll(real))
        ran++
      }
      expect(ran).toBeGreaterThan(0)
    },
  )

  it('refuses on meta what it refuses', { timeout: TIMEOUT }, () => {
    for (const { name: what, args, argument, wrongValues } of card.rejects('bfloat16')) {
      // Values are not there to be refused.
      if (!wrongValues)
        expect([argument].flat(), what).toContain(blamed(() => run(argumentsOf(args, 'meta'))))
    }
  })
})

/** The argument that is refused; nothing where none is. */
function blamed(call: () => void): string | undefined {
  try {
    call()
  } catch (error) {
    if (error instanceof ArgumentError) return error.argument
    throw error
  }
  return undefined
}
