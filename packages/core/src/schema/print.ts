// SPDX-License-Identifier: Apache-2.0
import type { AliasInfo, Argument, Literal, Schema, Type } from './ast'

/** The text of a schema in c10's normal form: what the dispatcher itself prints for it. */
export function formatSchema(schema: Schema): string {
  const name = `${schema.namespace === undefined ? '' : `${schema.namespace}::`}${schema.name}`
  const firstKwarg = schema.arguments.findIndex((argument) => argument.kwargOnly)
  const args = schema.arguments.map(formatArgument)
  if (firstKwarg >= 0) args.splice(firstKwarg, 0, '*')
  if (schema.isVararg) args.push('...')
  return `${name}${schema.overload === '' ? '' : `.${schema.overload}`}(${args.join(', ')}) -> ${formatReturns(schema)}`
}

/** A type in torch's spelling, alias marks included: `Tensor(a!)[]`, `int[2]?`. */
export function formatType(type: Type): string {
  return formatBareType(type) + (type.alias ? formatAlias(type.alias) : '')
}

function formatBareType(type: Type): string {
  switch (type.kind) {
    case 'base':
      return type.name
    case 'list':
      return `${formatType(type.element)}[${type.size ?? ''}]`
    case 'optional':
      return `${formatType(type.element)}?`
    case 'tuple':
      return `(${type.elements.map(formatType).join(', ')})`
    case 'generic': {
      const parameters = type.parameters.map(formatType).join(', ')
      return type.name === 'Union' || type.name === 'Optional'
        ? `${type.name}[${parameters}]`
        : `${type.name}(${parameters})`
    }
  }
}

function formatReturns({ returns, isVarret }: Schema): string {
  if (isVarret) return '...'
  const list = returns.map(({ type, name }) => formatType(type) + (name === '' ? '' : ` ${name}`))
  return list.length === 1 && list[0] !== undefined && !list[0].startsWith('(')
    ? list[0]
    : `(${list.join(', ')})`
}

function formatAlias({ before, after, isWrite }: AliasInfo): string {
  const same = before.length === after.length && before.every((set, i) => set === after[i])
  return `(${before.join('|')}${isWrite ? '!' : ''}${same ? '' : ` -> ${after.join('|')}`})`
}

function formatArgument(argument: Argument): string {
  const text = `${formatType(argument.type)} ${argument.name}`
  return argument.default ? `${text}=${formatLiteral(argument.default)}` : text
}

/** A default as c10 prints it: 17 significant digits, and a bare point behind a whole float (`1.`). */
export function formatLiteral(literal: Literal): string {
  switch (literal.kind) {
    case 'none':
      return 'None'
    case 'bool':
      return literal.value ? 'True' : 'False'
    case 'int':
      return String(literal.value)
    case 'float':
      return formatFloat(literal.value)
    case 'complex':
      return `${formatFloat(literal.imaginary)}j`
    case 'str':
      return `"${Array.from(literal.value, escaped).join('')}"`
    case 'symbol':
      return literal.name
    case 'list':
      return `[${literal.items.map(formatLiteral).join(', ')}]`
  }
}

const CONTROLS = '\x07\b\t\n\v\f\r'

function escaped(char: string): string {
  if (char === '\\' || char === '"' || char === "'") return `\\${char}`
  const control = CONTROLS.indexOf(char)
  return control < 0 ? char : `\\${'abtnvfr'[control]}`
}

/** C++'s `std::setprecision(17)` stream output, which is printf's %.17g, after c10's case for whole numbers. */
function formatFloat(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value < 0 ? '-inf' : 'inf'
  if (Number.isInteger(value) && Math.abs(value) < 1e10) return `${Object.is(value, -0) ? '-0' : value}.`
  const [mantissa = '', exponent = '0'] = value.toExponential(16).split('e')
  const power = Number(exponent)
  if (power >= -4 && power < 17) return value.toPrecision(17).replace(/\.?0+$/, '')
  const digits = Math.abs(power).toString().padStart(2, '0')
  return `${mantissa.replace(/\.?0+$/, '')}e${power < 0 ? '-' : '+'}${digits}`
}
