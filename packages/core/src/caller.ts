// SPDX-License-Identifier: Apache-2.0
//
// The function of one operator, written for its parameters: a tensor is looked at as a tensor, a number as a number, and whatever else
// comes goes the general way. Each operator has code of its own, so the engine compiles it with the operator's number, the buffer and the
// crossing as constants, and inlines it where it is called. In-place calls allocate nothing on the JavaScript heap.
import { buffer, HEADER, idOf, TAGS } from './encoding'
import type { NativeOperator } from './native'
import { Tensor } from './tensor'

/** Called with all arguments of a call. */
type General = (args: ArrayLike<unknown>) => unknown
/** Makes the results out of what the addon left in the buffer; `results` is their count, negative for a failure. */
type Finish = (results: number, args: ArrayLike<unknown>) => unknown

// Beyond that many the general way costs little in comparison.
const MOST_PARAMETERS = 24

/**
 * The function of an operator, or nothing where it takes a list or another value that is not plain, and where the process forbids code
 * from strings (`--disallow-code-generation-from-strings`).
 */
export function compileCaller(
  op: NativeOperator,
  crossing: () => void,
  general: General,
  finish: Finish,
): ((...args: unknown[]) => unknown) | undefined {
  const positional = op.parameters.filter(({ keywordOnly }) => !keywordOnly)
  if (positional.length > MOST_PARAMETERS || positional.some(({ kind }) => kind === 'other')) return undefined
  // No name of the schema enters the text: parameters are numbered.
  const names = positional.map((_, i) => `a${i}`)
  const source = `'use strict'
    return function (${names.join(', ')}) {
      const { tags, values } = buffer
      const count = arguments.length
      if (count > ${names.length}) return general(arguments)
      let handle = 0
      ${positional.map(writeArgument).join('\n')}
      values[0] = ${op.id}
      values[1] = ${HEADER} + count
      crossing()
      const results = buffer.values[0]
      if (results === 0) return undefined
      if (results === 1) {
        const tag = buffer.tags[${HEADER}]
        if (tag === ${TAGS.smallTensor}) return adoptSmall(buffer.values[${HEADER}])
        if (tag === ${TAGS.tensor}) return adopt(buffer.values[${HEADER}])
        if (tag === ${TAGS.argument}) ${returnArgument(names)}
      }
      return finish(results, arguments)
    }`
  try {
    const { handleIn, adopt, adoptSmall } = Tensor
    const context = { buffer, crossing, general, finish, handleIn, idOf, adopt, adoptSmall }
    return new Function(...Object.keys(context), source)(...Object.values(context))
  } catch (error) {
    if (error instanceof EvalError) return undefined
    throw error
  }
}

const ELSE = 'return general(arguments)'

/** The statement that writes argument `i`. What may be left out at the end, and is, is not written. */
function writeArgument(
  { kind, optional, hasDefault }: NativeOperator['parameters'][number],
  i: number,
): string {
  const value = `a${i}`
  const entry = HEADER + i
  const write = (tag: number, number?: string) =>
    `{ tags[${entry}] = ${tag}${number === undefined ? '' : `; values[${entry}] = ${number}`} }`
  const none = optional ? `if (${value} === null) ${write(TAGS.none)} else ` : ''
  const absent = optional || hasDefault ? `if (count <= ${i}) {} else ` : ''
  switch (kind) {
    case 'tensor':
      return `${absent}${none}if (typeof ${value} === 'object' && ${value} !== null && (handle = handleIn(${value})) >= 0) ${write(TAGS.tensor, 'handle')} else ${ELSE}`
    case 'number':
      return `${absent}${none}if (typeof ${value} === 'number') ${write(TAGS.number, value)} else ${ELSE}`
    case 'boolean':
      return `${absent}${none}if (typeof ${value} === 'boolean') ${write(TAGS.bool, `${value} ? 1 : 0`)} else ${ELSE}`
    default:
      return `${absent}${none}if (typeof ${value} === 'string') ${write(TAGS.string, `idOf(${value})`)} else ${ELSE}`
  }
}

/** The statement that returns the argument whose number stands in the first entry, without an array of all. */
function returnArgument(names: readonly string[]): string {
  const cases = names.map((name, i) => `case ${i}: return ${name}`)
  return `switch (buffer.values[${HEADER}]) { ${cases.join('; ')} }`
}
