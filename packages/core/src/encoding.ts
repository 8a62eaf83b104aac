// SPDX-License-Identifier: Apache-2.0
//
// The argument buffer: memory that JavaScript and the addon both see. Entry i is tags[i] with values[i], or with integers[i] over the
// same eight bytes. Entries 0 and 1 are the header, arguments and results start at entry 2. Strings are numbers of a table that both
// sides hold. csrc/environment.h has the same tags.
import { type Addon, dtypeTable, native, onStart, PROTOCOL } from './native'
import { Tensor } from './tensor'

const NONE = 0
const TENSOR = 1
const NUMBER = 2
const BIGINT = 3
const BOOL = 4
const STRING = 5
const LIST = 6
const COMPLEX = 7
const GENERATOR = 8
const INVALID = 9
const ABSENT = 10
const ARGUMENT = 11

/** Where arguments and results start. */
export const HEADER = 2

let capacity = 1 << 14
/** One tag an entry. */
export let tags = new Uint8Array(capacity)
/** One number an entry. */
export let values = new Float64Array(capacity)
let integers = new BigInt64Array(values.buffer)

let addon: Addon
const ids = new Map<string, number>()
const texts: (string | undefined)[] = []
// A program that makes up strings without end must not fill the table: beyond this they are still interned, but that many is a leak.
const MOST_STRINGS = 1 << 20

/** A complex number as argument or result of an op. */
export class Complex {
  constructor(
    readonly re: number,
    readonly im: number,
  ) {}
}

/** The state of a random number generator: pass it to ops with a `generator` argument. Freed with `dispose()`. */
export class Generator {
  #handle: number
  constructor(handle: number) {
    this.#handle = handle
  }
  /** @internal */
  static handleOf(value: object): number {
    return #handle in value ? value.#handle : 0
  }
  /** Frees the generator; using it afterwards is an `ArgumentError`. */
  dispose(): void {
    if (this.#handle !== 0) native().releaseGenerator(this.#handle)
    this.#handle = 0
  }
  [Symbol.dispose](): void {
    this.dispose()
  }
}

onStart((started) => {
  addon = started
  addon.setBuffer(tags, values)
  addon.initialize({ protocol: PROTOCOL, dtypes: dtypeTable(), invokeKernel: () => invokeKernel() })
})

let invokeKernel: () => void = () => {}

/** Sets what runs when the dispatcher calls a kernel written in JavaScript (`library.ts`). */
export function setKernelTrampoline(trampoline: () => void): void {
  invokeKernel = trampoline
}

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
  addon.setBuffer(tags, values)
}

function idOf(text: string): number {
  let id = ids.get(text)
  if (id === undefined) {
    if (ids.size > MOST_STRINGS) ids.clear()
    id = addon.intern(text)
    ids.set(text, id)
    texts[id] = text
  }
  return id
}

/** The string behind a number of the table. */
export function textOf(id: number): string {
  const text = texts[id] ?? addon.stringAt(id) ?? ''
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

/** A copy that reads no caller's code any more: nested arrays of plain values. */
export function snapshot(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) {
    const copy: unknown[] = new Array(value.length)
    for (let i = 0; i < copy.length; i++) copy[i] = snapshot(value[i])
    return copy
  }
  if (ArrayBuffer.isView(value) && !(value instanceof DataView))
    return Array.from(value as unknown as ArrayLike<number | bigint>)
  return value
}

/** Writes a snapshot's value at `position`; returns the position behind it. */
export function put(value: unknown, position: number): number {
  if (position + 2 >= capacity) grow(position + 3)
  const next = putPlain(value, position)
  if (next >= 0) return next
  if (typeof value === 'object') return putObject(value as object, position)
  if (typeof value !== 'bigint') return putInvalid(`a ${typeof value}`, position)
  if (BigInt.asIntN(64, value) !== value) return putInvalid(`bigint ${value}n (beyond 64 bits)`, position)
  tags[position] = BIGINT
  integers[position] = value
  return position + 1
}

function putInvalid(description: string, position: number): number {
  tags[position] = INVALID
  values[position] = idOf(description)
  return position + 1
}

function putObject(value: object, position: number): number {
  if (Array.isArray(value)) {
    tags[position] = LIST
    values[position] = value.length
    let next = position + 1
    for (let i = 0; i < value.length; i++) next = put(value[i], next)
    return next
  }
  if (value instanceof Complex) {
    tags[position] = COMPLEX
    values[position] = value.re
    tags[position + 1] = COMPLEX
    values[position + 1] = value.im
    return position + 2
  }
  const generator = Generator.handleOf(value)
  if (generator !== 0) {
    tags[position] = GENERATOR
    values[position] = generator
    return position + 1
  }
  return putInvalid(describeObject(value), position)
}

function describeObject(value: object): string {
  const name = Object.prototype.toString.call(value).slice(8, -1)
  const article = /^[AEIOU]/.test(name) ? 'an' : 'a'
  return value instanceof Generator ? 'a disposed generator' : `${article} ${name}`
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

// Tensors of a list are adopted after all entries were read: adopting writes the buffer's header only, nested lists read on.
function takeList(count: number, args: ArrayLike<unknown>): unknown[] {
  const list: unknown[] = new Array(count)
  for (let i = 0; i < count; i++) list[i] = take(args)
  return list
}

/** Reads the only result of a call, which is none of its arguments. */
export function takeOnly(): unknown {
  if (tags[HEADER] === TENSOR) return Tensor.adopt(values[HEADER]!)
  cursor = HEADER
  return take([])
}

/** When the only result is an argument itself, that argument's index; -1 otherwise. */
export function resultArgument(): number {
  return tags[HEADER] === ARGUMENT ? values[HEADER]! : -1
}
