// SPDX-License-Identifier: Apache-2.0
//
// The argument buffer: memory that JavaScript and the addon both see. Entry i is tags[i] with values[i], or with integers[i] over the
// same eight bytes. Entries 0 and 1 are the header, arguments and results start at entry 2. Strings are numbers of a table that both
// sides hold. csrc/environment.h has the same tags.
import { types } from 'node:util'
import { type Addon, dtypeTable, onStart, PROTOCOL } from './native'
import { Tensor } from './tensor'
import { invokeKernel } from './trampoline'

/** What an entry is. */
export const TAGS = {
  none: 0,
  tensor: 1,
  number: 2,
  bigint: 3,
  bool: 4,
  string: 5,
  list: 6,
  complex: 7,
  generator: 8,
  invalid: 9,
  absent: 10,
  argument: 11,
  smallTensor: 12,
  float: 13,
} as const
const {
  none: NONE,
  tensor: TENSOR,
  number: NUMBER,
  bigint: BIGINT,
  bool: BOOL,
  string: STRING,
  list: LIST,
  complex: COMPLEX,
  generator: GENERATOR,
  invalid: INVALID,
  absent: ABSENT,
  argument: ARGUMENT,
  smallTensor: SMALL_TENSOR,
  float: FLOAT,
} = TAGS

/** Where arguments and results start. */
export const HEADER = 2

let capacity = 1 << 14
/** One tag an entry. */
export let tags = new Uint8Array(capacity)
/** One number an entry. */
export let values = new Float64Array(capacity)
/** Both, for code that cannot see these variables (`caller.ts`). */
export const buffer = { tags, values }
let integers = new BigInt64Array(values.buffer)

let addon: Addon
const ids = new Map<string, number>()
const texts: string[] = []
// Names of dtypes, devices and modes come again and again: so many are kept for good. Others belong to one call.
const MOST_STRINGS = 4096
// Numbers of strings that belong to one call; csrc/environment.h has the same.
const PASSING = 1 << 24

/** A complex number as argument or result of an op. */
export class Complex {
  /** The real part. */
  readonly re: number
  /** The imaginary part. */
  readonly im: number
  // The same, where nobody can put something else in their place.
  readonly #re: number
  readonly #im: number

  constructor(re: number, im: number) {
    this.re = this.#re = Number(re)
    this.im = this.#im = Number(im)
    Object.freeze(this)
  }

  /** As Python writes it: `1+2j`. */
  toString(): string {
    return `${this.#re}${this.#im < 0 || Object.is(this.#im, -0) ? '-' : '+'}${Math.abs(this.#im)}j`
  }

  /** @internal The parts of a complex number, read without the caller's code; `undefined` for any other object. */
  static partsOf(value: object): readonly [number, number] | undefined {
    return #im in value ? [value.#re, value.#im] : undefined
  }
}

/**
 * A number that stays a float as an op's Scalar: `new Float(2)` is Python's `2.0`, where `2` is an int, which an integer tensor keeps
 * its dtype with.
 */
export class Float {
  /** The number. */
  readonly value: number
  // The same, where nobody can put something else in its place.
  readonly #value: number

  constructor(value: number) {
    this.value = this.#value = Number(value)
    Object.freeze(this)
  }

  /** @internal The number of a float, read without the caller's code; `undefined` for any other object. */
  static valueOf(value: object): number | undefined {
    return #value in value ? value.#value : undefined
  }
}

const forgotten = new FinalizationRegistry<number>((handle) => addon.releaseGenerator(handle))

/** The state of a random number generator: pass it to ops with a `generator` argument. Freed with `dispose()`. */
export class Generator {
  #handle: number

  /** @internal */
  constructor(handle: number) {
    this.#handle = handle
    forgotten.register(this, handle, this)
  }

  /** @internal The handle of a generator (0 when disposed), or `undefined` for any other object. */
  static handleOf(value: object): number | undefined {
    return #handle in value ? value.#handle : undefined
  }

  /** Frees the generator; using it afterwards is an `ArgumentError`. Twice is once. */
  dispose(): void {
    if (this.#handle === 0) return
    forgotten.unregister(this)
    addon.releaseGenerator(this.#handle)
    this.#handle = 0
  }

  /** Frees the generator at the end of a `using` block. */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** What stands in for a value that no op takes, with the words for the error message. */
class Invalid {
  constructor(readonly description: string) {}
}

onStart((started) => {
  addon = started
  addon.setBuffer(tags, values)
  addon.initialize({ protocol: PROTOCOL, dtypes: dtypeTable(), invokeKernel, grow })
})

function grow(needed: number): void {
  while (capacity < needed) capacity *= 2
  const olderTags = tags
  const olderValues = values
  tags = new Uint8Array(capacity)
  values = new Float64Array(capacity)
  tags.set(olderTags)
  // As integers: a bigint's bits may be a NaN, which a copy of doubles need not keep.
  integers = new BigInt64Array(values.buffer)
  integers.set(new BigInt64Array(olderValues.buffer))
  buffer.tags = tags
  buffer.values = values
  addon.setBuffer(tags, values)
}

/** The number of a string, for this call at least. */
export function idOf(text: string): number {
  let id = ids.get(text)
  if (id === undefined) {
    if (ids.size >= MOST_STRINGS) return addon.pass(text)
    id = addon.intern(text)
    ids.set(text, id)
  }
  return id
}

/** The string behind a number of the table. */
export function textOf(id: number): string {
  if (id >= PASSING) return addon.stringAt(id)
  const known = texts[id]
  if (known !== undefined) return known
  const text = addon.stringAt(id)
  texts[id] = text
  return text
}

/**
 * Writes a value that holds no caller's code: tensors, numbers, booleans, strings, null and undefined. -1 for everything else.
 *
 * Arrays and option objects may run the caller's code when they are read (getters, proxies), and that code may call ops, which use the
 * same buffer. So they are copied out (`snapshot`) before the first entry of a call is written.
 */
export function putPlain(value: unknown, position: number): number {
  switch (typeof value) {
    case 'object': {
      if (value === null) {
        tags[position] = NONE
        return position + 1
      }
      const handle = Tensor.handleOf(value)
      if (handle === undefined) return -1
      tags[position] = TENSOR
      values[position] = handle
      return position + 1
    }
    case 'number':
      tags[position] = NUMBER
      values[position] = value
      return position + 1
    case 'boolean':
      tags[position] = BOOL
      values[position] = value ? 1 : 0
      return position + 1
    case 'string':
      tags[position] = STRING
      values[position] = idOf(value)
      return position + 1
    case 'undefined':
      tags[position] = ABSENT
      return position + 1
    default:
      return -1
  }
}

/** A value that can be written without running any caller's code: nested arrays of plain values, and what stands in for the rest. */
export function snapshot(value: unknown): unknown {
  if (typeof value !== 'object') {
    if (typeof value === 'function') return new Invalid(value.name ? `function ${value.name}` : 'a function')
    return typeof value === 'symbol' ? new Invalid('a symbol') : value
  }
  if (value === null || Tensor.handleOf(value) !== undefined || value instanceof Invalid) return value
  if (Array.isArray(value)) {
    const { length } = value
    const copy: unknown[] = []
    for (let i = 0; i < length; i++) copy.push(snapshot(value[i]))
    return copy
  }
  // By the constructors, which read the elements themselves: a subclass may have its own `length` and iterator.
  if (types.isTypedArray(value)) {
    if (types.isBigInt64Array(value)) return Array.from(new BigInt64Array(value))
    if (types.isBigUint64Array(value)) return Array.from(new BigUint64Array(value))
    return Array.from(new Float64Array(value))
  }
  if (Complex.partsOf(value) || Generator.handleOf(value) || Float.valueOf(value) !== undefined) return value
  return new Invalid(describeObject(value))
}

function describeObject(value: object): string {
  if (Generator.handleOf(value) !== undefined) return 'a disposed generator'
  const name = Object.prototype.toString.call(value).slice(8, -1)
  return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`
}

/** Writes a snapshot's value at `position`; returns the position behind it. */
export function put(value: unknown, position: number): number {
  if (position + 2 >= capacity) grow(position + 3)
  const next = putPlain(value, position)
  if (next >= 0) return next
  if (typeof value === 'bigint') {
    if (BigInt.asIntN(64, value) !== value) return putInvalid(`bigint ${value}n (beyond 64 bits)`, position)
    tags[position] = BIGINT
    integers[position] = value
    return position + 1
  }
  if (Array.isArray(value)) {
    tags[position] = LIST
    values[position] = value.length
    let after = position + 1
    for (let i = 0; i < value.length; i++) after = put(value[i], after)
    return after
  }
  if (value instanceof Invalid) return putInvalid(value.description, position)
  const parts = Complex.partsOf(value as object)
  if (parts) {
    tags[position] = COMPLEX
    values[position] = parts[0]
    tags[position + 1] = COMPLEX
    values[position + 1] = parts[1]
    return position + 2
  }
  const float = Float.valueOf(value as object)
  if (float !== undefined) {
    tags[position] = FLOAT
    values[position] = float
    return position + 1
  }
  tags[position] = GENERATOR
  values[position] = Generator.handleOf(value as object)!
  return position + 1
}

function putInvalid(description: string, position: number): number {
  tags[position] = INVALID
  values[position] = addon.pass(description)
  return position + 1
}

/** What `take` reads is at this position afterwards. */
export let cursor = HEADER

/** Starts reading results. */
export function rewind(): void {
  cursor = HEADER
}

/** Reads the value at the cursor. An `Argument` entry is the caller's own tensor: `args[index]`. */
export function take(args: ArrayLike<unknown>): unknown {
  const position = cursor++
  switch (tags[position]) {
    case TENSOR:
      return Tensor.adopt(values[position]!)
    case SMALL_TENSOR:
      return Tensor.adoptSmall(values[position]!)
    case ARGUMENT:
      return args[values[position]!]
    case NUMBER:
      return values[position]
    case BIGINT:
      return integers[position]
    case BOOL:
      return values[position] !== 0
    case STRING:
      return textOf(values[position]!)
    case LIST:
      return takeList(values[position]!, args)
    case COMPLEX:
      return new Complex(values[position]!, values[cursor++]!)
    case GENERATOR:
      return new Generator(values[position]!)
    default:
      return null
  }
}

// Adopting a tensor writes the buffer's header only: the entries behind it can still be read.
function takeList(count: number, args: ArrayLike<unknown>): unknown[] {
  const list: unknown[] = new Array(count)
  for (let i = 0; i < count; i++) list[i] = take(args)
  return list
}
