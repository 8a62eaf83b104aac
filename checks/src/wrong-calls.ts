// SPDX-License-Identifier: Apache-2.0
//
// Wrong calls of our ops, made from right ones: one argument of a card's case is replaced by something that its op cannot take.
import { runInNewContext } from 'node:vm'
import {
  type CaseValue,
  cards,
  type DType,
  empty,
  parseSchema,
  type Random,
  Tensor,
  type TensorSpec,
  torch,
  zeros,
} from '@vllm-ops/core'

/** A call that an op has to refuse. What is not wrong after all (another stride may do) is taken. */
export interface WrongCall {
  /** With its namespace. */
  readonly op: string
  /** What was done to the right call. */
  readonly kind: string
  /** The argument that it was done to, by the schema's name. */
  readonly argument: string
  readonly call: (...args: unknown[]) => unknown
  readonly args: readonly unknown[]
  /** What a getter of the caller throws: that comes back as it is. */
  readonly own?: Error
}

/** A right call, with tensors that all wrong ones made from it share. */
interface RightCall {
  readonly op: string
  readonly names: readonly string[]
  readonly call: (...args: unknown[]) => unknown
  readonly args: readonly unknown[]
}

// Larger cases take longer and are refused for the same reasons.
const MOST_ELEMENTS = 1 << 14
const CASES_OF_AN_OP = 4

/** The right calls of every op of ours that takes a tensor: a few small cases of each card, their elements zero. */
export function rightCalls(): RightCall[] {
  return cards.flatMap((card) => {
    const schema = parseSchema(card.schema)
    const names = schema.arguments.map(({ name }) => name)
    const overload = torch.vllm_ops?.[schema.name]?.default
    // Without a tensor there is no device: whether such an op has a kernel is up to the backends that are loaded.
    if (!overload || !card.schema.includes('Tensor')) return []
    const small = [...card.cases('float32')].filter(
      ({ args }) => elementsOf(Object.values(args)) <= MOST_ELEMENTS,
    )
    return small.slice(0, CASES_OF_AN_OP).map(({ args }) => {
      const byName: Readonly<Record<string, CaseValue | undefined>> = args
      return {
        op: `vllm_ops::${schema.name}`,
        names,
        call: (...given: unknown[]) => (overload as (...args: unknown[]) => unknown)(...given),
        args: names.map((name) => made(byName[name])),
      }
    })
  })
}

function elementsOf(values: readonly unknown[]): number {
  return values
    .flat()
    .filter(isSpec)
    .reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0)
}

function isSpec(value: unknown): value is TensorSpec {
  return typeof value === 'object' && value !== null && 'dtype' in value
}

function made(value: CaseValue | undefined): unknown {
  if (isSpec(value)) return zeros(value.shape, { dtype: value.dtype })
  return typeof value === 'object' && value !== null ? value.map(made) : (value ?? null)
}

const DTYPES: readonly DType[] = ['float64', 'int8', 'int32', 'int64', 'bool', 'complex64', 'float8_e4m3fn']
const HUGE = [2 ** 53, -(2 ** 53), 1e308, 2 ** 62, -(2 ** 63), 1n << 62n, 1n << 64n, Number.MAX_VALUE]
const NOT_NUMBERS = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0.5, -1]

/** Things of classes that no op takes. */
const STRANGERS: readonly ((value: unknown) => unknown)[] = [
  () => 'a text',
  () => Symbol('s'),
  () => () => 0,
  () => new Date(0),
  () => new Map(),
  () => [[1, [2]]],
  () => 3.5,
  () => true,
  () => 5n,
  () => new Float32Array(3),
  () => Object.create(Tensor.prototype),
  (value) => (typeof value === 'object' && value !== null ? new Proxy(value, {}) : new Proxy({}, {})),
  () => Promise.resolve(),
]

/** What can be done to argument `i` of a right call. Nothing where it does not apply. */
type Mutation = (right: RightCall, i: number, random: Random) => Partial<WrongCall> | undefined

function replaced({ args }: RightCall, i: number, value: unknown): { args: unknown[] } {
  return { args: args.map((arg, j) => (j === i ? value : arg)) }
}

function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.integer(0, items.length)]!
}

/** A mutation of tensor arguments. */
function ofTensor(change: (tensor: Tensor, random: Random, right: RightCall) => unknown): Mutation {
  return (right, i, random) => {
    const tensor = right.args[i]
    if (!(tensor instanceof Tensor)) return undefined
    const value = change(tensor, random, right)
    return value === undefined ? undefined : replaced(right, i, value)
  }
}

const otherSize = ofTensor((tensor, random) => {
  const shape = [...tensor.shape]
  const dim = random.integer(0, Math.max(1, shape.length))
  shape[dim] = pick(random, [0, 1, (shape[dim] ?? 1) + 1, (shape[dim] ?? 1) * 2, 3])
  return zeros(shape, { dtype: tensor.dtype })
})

const otherStride = ofTensor((tensor, random) => {
  const { ndim, numel } = tensor
  if (numel === 0) return undefined
  if (ndim === 0) return torch.aten.expand(tensor, [2, 3])
  if (ndim > 1 && random.uniform() < 0.5) return tensor.transpose(0, ndim - 1)
  return torch.aten.expand(tensor.narrow(ndim - 1, 0, 1), [...tensor.shape])
})

/** Every kind of wrong call that the checks promise. */
const MUTATIONS: Readonly<Record<string, Mutation>> = {
  missing: ({ args }, i) => ({ args: args.slice(0, i) }),
  surplus: ({ args }, _, random) => ({ args: [...args, pick<unknown>(random, [1, null, 'text', args[0]])] }),
  null: (right, i) => replaced(right, i, null),
  class: (right, i, random) => replaced(right, i, pick(random, STRANGERS)(right.args[i])),
  dtype: ofTensor((tensor, random) => zeros(tensor.shape, { dtype: pick(random, DTYPES) })),
  device: ofTensor((tensor) => empty(tensor.shape, { dtype: tensor.dtype, device: 'meta' })),
  rank: ofTensor((tensor, random) =>
    tensor.reshape(random.uniform() < 0.5 ? [1, ...tensor.shape, 1] : [tensor.numel]),
  ),
  size: otherSize,
  stride: otherStride,
  overlap: ofTensor((tensor, random, { args }) => {
    const others = args.filter((arg): arg is Tensor => arg instanceof Tensor && arg !== tensor)
    return others.length > 0 ? pick(random, others) : tensor
  }),
  disposed: ofTensor((tensor) => {
    const gone = tensor.clone()
    gone.dispose()
    return gone
  }),
  realm: (right, i) =>
    replaced(right, i, runInNewContext('Object.create(prototype)', { prototype: Tensor.prototype })),
  huge: (right, i, random) => {
    const value = right.args[i]
    if (value instanceof Tensor) return replaced(right, i, torch.aten.expand(zeros([1]), [2 ** 40]))
    return typeof value === 'number' ? replaced(right, i, pick<unknown>(random, HUGE)) : undefined
  },
  nan: (right, i, random) =>
    typeof right.args[i] === 'number' ? replaced(right, i, pick(random, NOT_NUMBERS)) : undefined,
  throwingGetter: ({ args, names }, i) => {
    const own = new Error('a getter of the caller')
    const options = Object.defineProperty({}, names[i]!, {
      enumerable: true,
      get() {
        throw own
      },
    })
    return { args: [...args.slice(0, i), options], own }
  },
  disposingGetter: ({ args, names }, i) => {
    const first = args.find((arg) => arg instanceof Tensor)
    if (!(first instanceof Tensor)) return undefined
    const victim = first.clone()
    const options = Object.fromEntries(names.slice(i + 1).map((name, j) => [name, args[i + 1 + j]]))
    Object.defineProperty(options, names[i]!, {
      enumerable: true,
      get() {
        victim.dispose()
        return args[i]
      },
    })
    const given = args.slice(0, i).map((arg) => (arg === first ? victim : arg))
    return given.includes(victim) ? { args: [...given, options] } : undefined
  },
}

/** The wrong call that `random` leads to. */
export function wrongCall(rights: readonly RightCall[], random: Random): WrongCall {
  for (;;) {
    const right = pick(random, rights)
    const i = random.integer(0, right.names.length)
    const [kind, mutate] = pick(random, Object.entries(MUTATIONS))
    const change = mutate(right, i, random)
    if (change) {
      const { op, call, args } = right
      return { op, call, args, kind, argument: right.names[i]!, ...change }
    }
  }
}
