// SPDX-License-Identifier: Apache-2.0
//
// The references are what every kernel is measured against, so they are measured themselves: against values that
// fixtures/definitions.py has computed from the definitions, without torch and without anything of this repository.
import {
  cards,
  type DType,
  evaluate,
  isWrite,
  type OpArgument,
  parseSchema,
  type Schema,
  Tensor,
  tensor,
} from '@vllm-ops/core'
import { describe, expect, it } from 'vitest'
import definitions from './fixtures/definitions.json'

type Nested = (number | Nested)[]
type Value = number | boolean | string | null | Nested

interface Definition {
  args: Record<string, Value>
  expected?: Record<string, Nested>
  returns?: Nested
}

/** Tensors that are not floats, by their name in the schemas. */
const DTYPES: Record<string, DType> = {
  positions: 'int64',
  slot_mapping: 'int64',
  block_tables: 'int32',
  seq_lens: 'int32',
  cos_sin_cache_offsets: 'int64',
  block_mapping: 'int64',
  W: 'uint8',
}

function toArgument({ name, type }: Schema['arguments'][number], value: Value): OpArgument {
  const toTensor = (values: Nested) => tensor(values, { dtype: DTYPES[name] ?? 'float64' })
  if (!isNested(value)) return value
  return type.kind === 'list'
    ? value.map((item) => toTensor(typeof item === 'number' ? [item] : item))
    : toTensor(value)
}

function isNested(value: Value): value is Nested {
  return Array.isArray(value)
}

function flat(values: Nested): number[] {
  return values.flatMap((value) => (typeof value === 'number' ? [value] : flat(value)))
}

/** Both sides are float64 and differ in the order of their sums only: a few of its ulps, for values around 1. */
function expectClose(received: Tensor, expected: Nested): void {
  const values = received.to('float64').contiguous().data()
  const right = flat(expected)
  expect(values.length).toBe(right.length)
  const worst = right.reduce((most, value, i) => Math.max(most, Math.abs(value - Number(values[i]))), 0)
  expect(worst).toBeLessThan(1e-14)
}

describe.each(cards.filter(({ reference }) => reference))('the reference of $schema', (card) => {
  const schema = parseSchema(card.schema)
  const known: Record<string, Record<string, Definition>> = definitions

  it.each(Object.entries(known[schema.name] ?? {}))(
    'is the definition %s',
    (_, { args, expected = {}, returns }) => {
      const values = schema.arguments.map((argument) => toArgument(argument, args[argument.name] ?? null))
      const result = evaluate(card, values)
      const written = schema.arguments
        .filter((argument) => isWrite(argument) && !card.scratch?.includes(argument.name))
        .map(({ name }) => name)
      expect(Object.keys(expected)).toEqual(written)
      for (const [i, { name }] of schema.arguments.entries()) {
        const value = values[i]
        const right = expected[name]
        if (right && value instanceof Tensor) expectClose(value, right)
        const list = Array.isArray(value) ? value.filter((item) => item instanceof Tensor) : []
        for (const [place, item] of list.entries()) if (right) expectClose(item, [right[place] ?? []])
      }
      if (returns && result instanceof Tensor) expectClose(result, returns)
      expect(result instanceof Tensor).toBe(returns !== undefined)
    },
  )
})
