// SPDX-License-Identifier: Apache-2.0
import { describe, expect, it } from 'vitest'
import {
  aliasOf,
  cards,
  formatSchema,
  formatType,
  isWrite,
  listOps,
  parseSchema,
  type Schema,
  SchemaError,
} from '../src/index'

const unknownAlias = { before: ['*'], after: ['*'], isWrite: false }

describe('parseSchema', () => {
  it('reads and prints every schema in the dispatcher as c10 prints it', () => {
    const all = listOps()
    const different = all.filter(({ schema }) => formatSchema(parseSchema(schema)) !== schema)
    expect(different).toEqual([])
    // PyTorch 2.10 to 2.15 define over 3000 in aten: an empty list would prove nothing.
    expect(all.filter(({ name }) => name.startsWith('aten::')).length).toBeGreaterThan(3000)
  })

  it('finds the names that the dispatcher lists', () => {
    for (const { name, overload, schema } of listOps()) {
      const parsed = parseSchema(schema)
      expect([`${parsed.namespace}::${parsed.name}`, parsed.overload]).toEqual([name, overload])
    }
  })

  it('reads our cards, which are in normal form and defined as they stand', () => {
    const defined = listOps('vllm_ops').map(({ schema }) => schema)
    for (const { schema } of cards) {
      expect(formatSchema(parseSchema(schema))).toBe(schema)
      expect(defined).toContain(`vllm_ops::${schema}`)
    }
  })

  it('tells an op in full', () => {
    expect(parseSchema('vllm_ops::norm.out(Tensor(a!) out, Tensor input, float epsilon=0.5) -> ()')).toEqual({
      namespace: 'vllm_ops',
      name: 'norm',
      overload: 'out',
      arguments: [
        {
          name: 'out',
          type: { kind: 'base', name: 'Tensor', alias: { before: ['a'], after: ['a'], isWrite: true } },
          kwargOnly: false,
        },
        { name: 'input', type: { kind: 'base', name: 'Tensor' }, kwargOnly: false },
        {
          name: 'epsilon',
          type: { kind: 'base', name: 'float' },
          kwargOnly: false,
          default: { kind: 'float', value: 0.5 },
        },
      ],
      isVararg: false,
      returns: [],
      isVarret: false,
    } satisfies Schema)
  })

  it.each([
    ['None', { kind: 'none' }],
    ['True', { kind: 'bool', value: true }],
    ['-100', { kind: 'int', value: -100 }],
    ['9223372036854775807', { kind: 'int', value: 9223372036854775807n }],
    ['1.', { kind: 'float', value: 1 }],
    ['1.0000000000000001e-05', { kind: 'float', value: 1e-5 }],
    ['-inf', { kind: 'float', value: Number.NEGATIVE_INFINITY }],
    ['2.j', { kind: 'complex', imaginary: 2 }],
    ['"a, b) -> (\\"\\n"', { kind: 'str', value: 'a, b) -> ("\n' }],
    ['contiguous_format', { kind: 'symbol', name: 'contiguous_format' }],
    ['[]', { kind: 'list', items: [] }],
    [
      '[0, 1]',
      {
        kind: 'list',
        items: [
          { kind: 'int', value: 0 },
          { kind: 'int', value: 1 },
        ],
      },
    ],
  ])('reads the default %s and prints it back', (text, literal) => {
    const schema = `f(Any x=${text}) -> ()`
    expect(parseSchema(schema).arguments[0]?.default).toEqual(literal)
    expect(formatSchema(parseSchema(schema))).toBe(schema)
  })

  it.each([
    ['Tensor(a!)[]', true, { before: ['a'], after: ['a'], isWrite: true }],
    ['Tensor(a!)?', true, { before: ['a'], after: ['a'], isWrite: true }],
    ['Tensor(a -> *)', false, { before: ['a'], after: ['*'], isWrite: false }],
    ['Tensor(a|b! -> c)', true, { before: ['a', 'b'], after: ['c'], isWrite: true }],
    ['t[](*)', false, unknownAlias],
    ['int[2]?', false, undefined],
    ['Tensor?[]', false, undefined],
    ['Dict(str, Tensor[])', false, undefined],
    ['(int, Tensor?)', false, undefined],
    ['__torch__.torch.classes.rnn.CellParamsBase[]', false, undefined],
  ])('reads the type %s', (text, writes, alias) => {
    const [argument] = parseSchema(`f(${text} x) -> ()`).arguments
    if (!argument) throw new Error('no argument')
    expect(formatType(argument.type)).toBe(text)
    expect(isWrite(argument)).toBe(writes)
    expect(aliasOf(argument.type)).toEqual(alias)
  })

  it('tells keyword-only arguments, sizes, varargs and several returns', () => {
    const schema = parseSchema('f(int[2] a=1, *, Tensor? b, ...) -> (Tensor values, Tensor(a)[])')
    expect(schema.arguments.map(({ kwargOnly }) => kwargOnly)).toEqual([false, true])
    expect(schema.arguments[0]?.type).toMatchObject({ kind: 'list', size: 2 })
    expect(schema.isVararg).toBe(true)
    expect(schema.returns.map(({ name }) => name)).toEqual(['values', ''])
    expect(parseSchema('f() -> ...').isVarret).toBe(true)
  })

  it.each([
    ['', 0, 'the name of the operator'],
    ['f', 1, "'('"],
    ['f(Tensor x) ', 12, "'->'"],
    ['f(Tensor x -> ()', 11, "',' or ')'"],
    ['f(Tensor) -> ()', 8, "the argument's name"],
    ['f(Tensor() x) -> ()', 9, 'an alias set'],
    ['f(Tensor x, ) -> ()', 12, 'a type'],
    ['f(Tenser x) -> ()', 2, "a type of torch's"],
    ['f(Tensor! x) -> ()', 8, "the argument's name"],
    ['f(Tensor(a! x) -> ()', 12, "')'"],
    ['f(int[x] y) -> ()', 6, "a size or ']'"],
    ['f(int[2 y) -> ()', 8, "']'"],
    ['f(int x=) -> ()', 8, 'a default'],
    ['f(int[] x=[1 2]) -> ()', 13, "',' or ']'"],
    ['f(str x="a) -> ()', 17, 'the closing "'],
    ['f(int x=1, int y) -> ()', 16, "a default, since 'x' before it has one"],
    ['f(*, int x, *, int y) -> ()', 12, "an argument (there is a '*' already)"],
    ['f(..., int x) -> ()', 7, "')' after '...'"],
    ['f() -> (Tensor', 14, "',' or ')'"],
    ['f() -> Tensor) ', 13, 'nothing more'],
    ['f.(Tensor x) -> ()', 2, 'the name of the overload'],
  ])('says what is wrong with %j', (text, position, expected) => {
    let error: unknown
    try {
      parseSchema(text)
    } catch (thrown) {
      error = thrown
    }
    if (!(error instanceof SchemaError)) throw new Error(`threw ${error}`)
    expect(error).toMatchObject({ code: 'E_SCHEMA', schema: text, position })
    expect(error.message).toContain(`expected ${expected}`)
    expect(error.message).toContain(`at character ${position + 1}`)
    expect(error.fix).toContain('->')
  })
})
