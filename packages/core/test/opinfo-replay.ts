// SPDX-License-Identifier: Apache-2.0
import {
  Complex,
  type DType,
  Float,
  fromTypedArray,
  generator,
  manualSeed,
  type OpArgument,
  type OpOptions,
  Tensor,
  torch,
} from '@vllm-ops/core'
import { native } from '@vllm-ops/core/internal'
import { expect } from 'vitest'

/** A value of a record; fixtures/opinfo/values.py says what each form is. */
type Value =
  | null
  | boolean
  | string
  | number
  | { readonly i: string }
  | { readonly f: number | string }
  | { readonly c: readonly [number | string, number | string] }
  | { readonly g: string }
  | { readonly t: number }
  | readonly Value[]

/** A tensor as it has to be; without `data` its elements are not told. */
interface Contents {
  readonly dtype: DType
  readonly shape: readonly number[]
  readonly data?: string
}

type Result = Value | Contents | { readonly argument: number } | readonly Result[]

/** One recorded call. */
export interface OpRecord {
  readonly op: string
  readonly seed: number
  /** The overload that Python's packet picks for these arguments. */
  readonly packet: string | null
  readonly args: readonly Value[]
  readonly kwargs: Readonly<Record<string, Value>>
  readonly storages: readonly string[]
  readonly tensors: readonly (readonly [DType, number[], number[], number, number])[]
  readonly results: readonly Result[]
  readonly written: Readonly<Record<string, Contents | readonly Contents[]>>
}

// Vectorised functions and the order of sums differ by the machine's instruction set, by a few roundings of the dtype.
const TOLERANCE: Partial<Record<DType, number>> = {
  bfloat16: 2 ** -6,
  float16: 2 ** -8,
  float32: 1e-4,
  complex64: 1e-4,
  float64: 1e-9,
  complex128: 1e-9,
}

/** Makes a recorded call, by its overload or by the op's packet, and compares everything that it returns and writes. */
export function replay(record: OpRecord, by: 'overload' | 'packet'): void {
  const [name = '', overload = 'default'] = record.op.slice('aten::'.length).split('.')
  const packet = torch.aten[name]!
  const tensors = tensorsOf(record)
  const args = record.args.map((value) => decode(value, tensors))
  const kwargs = Object.fromEntries(
    Object.entries(record.kwargs).map(([key, value]) => [key, decode(value, tensors)]),
  )
  const given: (OpArgument | OpOptions)[] = Object.keys(kwargs).length > 0 ? [...args, kwargs] : args
  manualSeed(record.seed)
  const result = by === 'packet' ? packet<unknown>(...given) : packet[overload]!<unknown>(...given)
  const results = record.results.length === 1 ? [result] : ((result ?? []) as unknown[])
  const parameters = native().findOperator(
    `aten::${name}`,
    overload === 'default' ? '' : overload,
  )!.parameters
  const handed = parameters.map((parameter, i) => (i < args.length ? args[i] : kwargs[parameter.name]))
  expect(results).toHaveLength(record.results.length)
  for (const [i, expected] of record.results.entries()) check(results[i], expected, handed, `result ${i}`)
  for (const [i, expected] of Object.entries(record.written))
    check(handed[Number(i)], expected, handed, `written argument ${parameters[Number(i)]!.name}`)
}

function tensorsOf({ storages, tensors }: OpRecord): Tensor[] {
  // Copied: ops may resize, which memory of JavaScript forbids.
  const memory = storages.map((text) => fromTypedArray(new Uint8Array(Buffer.from(text, 'base64'))).clone())
  return tensors.map(([dtype, shape, strides, offset, storage]) => {
    const typed = torch.aten.view.dtype!(memory[storage]!, dtype)
    return torch.aten.as_strided!(typed, shape, strides, offset)
  })
}

function decode(value: Value, tensors: readonly Tensor[]): OpArgument {
  if (value === null || typeof value !== 'object') return value
  if (isList(value)) return value.map((item) => decode(item, tensors))
  if ('t' in value) return tensors[value.t]!
  if ('i' in value) return BigInt(value.i)
  if ('f' in value) return new Float(float(value.f))
  if ('c' in value) return new Complex(float(value.c[0]), float(value.c[1]))
  return generator(BigInt(value.g))
}

/** Whether a value is a list: `Array.isArray` does not narrow read-only ones. */
function isList<T>(value: T | readonly T[]): value is readonly T[] {
  return Array.isArray(value)
}

function float(value: number | string): number {
  if (value === 'inf') return Number.POSITIVE_INFINITY
  if (value === '-inf') return Number.NEGATIVE_INFINITY
  return value === 'nan' ? Number.NaN : Number(value)
}

function check(actual: unknown, expected: Result, handed: readonly unknown[], where: string): void {
  if (isList<Result>(expected)) {
    expect(actual, where).toHaveLength(expected.length)
    for (const [i, item] of expected.entries())
      check((actual as unknown[])[i], item, handed, `${where}[${i}]`)
  } else if (expected !== null && typeof expected === 'object' && 'argument' in expected) {
    // What only may be an argument (`contiguous`) is an object of its own here: the same elements then.
    const argument = handed[expected.argument]
    if (actual !== argument) checkTensor(actual, contentsOf(argument), where)
  } else if (expected !== null && typeof expected === 'object' && 'dtype' in expected) {
    checkTensor(actual, expected, where)
  } else {
    const wanted = decode(expected as Value, [])
    const plain = wanted instanceof Float ? wanted.value : wanted
    if (plain instanceof Complex) expect(actual, where).toMatchObject({ re: plain.re, im: plain.im })
    else if (typeof plain === 'number' && !Number.isInteger(plain))
      expect(actual, where).toBeCloseTo(plain, 4)
    else expect(actual, where).toEqual(plain)
  }
}

function contentsOf(tensor: unknown): Contents {
  if (!(tensor instanceof Tensor)) throw new Error('no tensor')
  return { dtype: tensor.dtype, shape: tensor.shape, data: Buffer.from(bytesOf(tensor)).toString('base64') }
}

function bytesOf(tensor: Tensor): Uint8Array {
  const flat = torch.aten.clone(tensor, { memory_format: 'contiguous_format' }).reshape([-1])
  return flat.numel === 0
    ? new Uint8Array()
    : Uint8Array.from(torch.aten.view.dtype!(flat, 'uint8').data(), Number)
}

function checkTensor(actual: unknown, expected: Contents, where: string): void {
  if (!(actual instanceof Tensor)) throw new Error(`${where} is ${actual}, no tensor`)
  expect({ dtype: actual.dtype, shape: actual.shape }, where).toEqual({
    dtype: expected.dtype,
    shape: expected.shape,
  })
  if (expected.data === undefined) return
  const bytes = new Uint8Array(Buffer.from(expected.data, 'base64'))
  if (Buffer.compare(bytesOf(actual), bytes) === 0) return
  const tolerance = TOLERANCE[expected.dtype]
  const wanted = torch.aten.view.dtype!(fromTypedArray(bytes), expected.dtype)
  if (tolerance === undefined) expect(actual.reshape([-1]).toArray(), where).toEqual(wanted.toArray())
  else expectClose(numbersOf(actual), numbersOf(wanted), tolerance, where)
}

function numbersOf(tensor: Tensor): number[] {
  const real = tensor.dtype.startsWith('complex') ? torch.aten.view_as_real(tensor.contiguous()) : tensor
  return Array.from(real.contiguous().to('float64').data(), Number)
}

function expectClose(actual: number[], wanted: number[], tolerance: number, where: string): void {
  const scale = Math.max(1, ...wanted.filter(Number.isFinite).map(Math.abs))
  for (const [i, value] of wanted.entries()) {
    const difference = Math.abs(actual[i]! - value)
    const equal = Object.is(actual[i], value) || actual[i] === value || difference <= tolerance * scale
    if (!equal) throw new Error(`${where}: element ${i} is ${actual[i]}, expected ${value}`)
  }
}
