// SPDX-License-Identifier: Apache-2.0
//
// The cases of the op cards in a form that other languages read.
import {
  type AnyCard,
  type CaseValue,
  type DType,
  empty,
  type FloatDType,
  floatDTypes,
  fromTypedArray,
  parseSchema,
  scope,
  Tensor,
  type TensorSpec,
  torch,
} from '@vllm-ops/core'
import { SeededRandom } from '@vllm-ops/core/testing'

/** A tensor of a sample: its elements in row-major order as float64 in base64. */
export interface SampleTensor {
  readonly dtype: DType
  readonly shape: readonly number[]
  /** Left out where it is contiguous. */
  readonly strides: readonly number[] | null
  readonly values: string
}

/** What an op returns, without data. */
export interface SampleResult {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly strides: readonly number[]
}

/** One call of an op. */
export interface Sample {
  readonly op: string
  readonly name: string
  /** In the schema's order; a dtype is `{ scalarType }`. */
  readonly args: readonly unknown[]
  /** What the op's definition gives on the meta device. */
  readonly results: readonly SampleResult[]
}

/** The op's name in a card's schema. */
export function nameOf({ schema }: AnyCard): string {
  return schema.slice(0, schema.indexOf('('))
}

/** Every case of a card in every dtype, but for those that a kernel may refuse. */
export function* samplesOf(card: AnyCard): Generator<Sample> {
  for (const dtype of floatDTypes)
    for (const testCase of card.cases(dtype))
      if (testCase.mayRefuse === undefined) yield sampleOf(card, dtype, testCase.name, testCase.args)
}

function sampleOf(
  card: AnyCard,
  dtype: FloatDType,
  name: string,
  args: Readonly<Record<string, CaseValue>>,
): Sample {
  const op = nameOf(card)
  const random = new SeededRandom(`${op}, ${dtype}, ${name}`)
  const parameters = parseSchema(card.schema).arguments
  const values = parameters.map((parameter) => args[parameter.name] ?? null)
  return {
    op,
    name: `${dtype}, ${name}`,
    args: values.map((value, i) => {
      if (isSpec(value)) return sampleTensor(value, random)
      if (isList(value)) return value.map((spec) => sampleTensor(spec, random))
      const { type } = parameters[i]!
      const base = type.kind === 'optional' ? type.element : type
      return base.kind === 'base' && base.name === 'ScalarType' && value !== null
        ? { scalarType: value }
        : value
    }),
    results: card.reference ? scope(() => resultsOf(op, values)) : [],
  }
}

function resultsOf(op: string, values: readonly CaseValue[]): SampleResult[] {
  const fake = ({ shape, strides, dtype }: TensorSpec) =>
    torch.aten.empty_strided!(shape, strides ?? empty(shape, { device: 'meta' }).strides, {
      dtype,
      device: 'meta',
    })
  const fakes = values.map((value) => (isSpec(value) ? fake(value) : isList(value) ? value.map(fake) : value))
  const returned: unknown = torch.vllm_ops![op]!(...fakes)
  return [returned].flat().flatMap((result) => (result instanceof Tensor ? [resultOf(result)] : []))
}

function isList(value: CaseValue): value is readonly TensorSpec[] {
  return Array.isArray(value)
}

function isSpec(value: CaseValue): value is TensorSpec {
  return typeof value === 'object' && value !== null && !isList(value)
}

function resultOf({ dtype, shape, strides }: Tensor): SampleResult {
  return { dtype, shape, strides }
}

function sampleTensor({ dtype, shape, strides, fill }: TensorSpec, random: SeededRandom): SampleTensor {
  const count = shape.reduce((product, size) => product * size, 1)
  const exact = Float64Array.from({ length: count }, (_, i) => fill(i, random))
  const bytes = scope(() => {
    const { buffer, byteOffset, byteLength } = fromTypedArray(exact, [count]).to(dtype).to('float64').data()
    return Buffer.from(buffer, byteOffset, byteLength).toString('base64')
  })
  return { dtype, shape, strides: strides ?? null, values: bytes }
}
