// SPDX-License-Identifier: Apache-2.0
import { VllmOpsError } from '../errors'
import type { AliasInfo, Argument, Literal, Return, Schema, Type } from './ast'

/** A text that is no operator schema. */
export class SchemaError extends VllmOpsError {
  override readonly name = 'SchemaError'
  /** The whole text. */
  readonly schema: string
  /** Where the first character stands that doesn't fit, counted from 0. */
  readonly position: number

  constructor(schema: string, position: number, expected: string) {
    const rest = schema.slice(position, position + 12)
    const found = rest === '' ? 'its end' : `'${rest}${position + 12 < schema.length ? '…' : ''}'`
    super(
      'E_SCHEMA',
      `schema '${schema}': expected ${expected} at character ${position + 1}, found ${found}`,
      {
        fix: 'Spell it as torch does: name.overload(Tensor(a!) out, Tensor input, float epsilon) -> ()',
      },
    )
    this.schema = schema
    this.position = position
  }
}

/** The base types of torch's schema language. Another name is an error, as it is in c10. */
const BASE_TYPES: ReadonlySet<string> = new Set(
  (
    'Tensor Scalar number int SymInt float SymFloat bool SymBool complex str ScalarType Device Layout MemoryFormat ' +
    'QScheme Generator Stream Storage Dimname Any AnyEnumType AnyClassType NoneType Capsule RRef PyObject'
  ).split(' '),
)

/** Those that take parameters in parentheses (`Dict(K, V)`) or, as Union, in brackets. */
const GENERIC_TYPES: ReadonlySet<string> = new Set(['Dict', 'Future', 'Await', 'RRef', 'Union', 'Optional'])

const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}

/**
 * Parses an operator schema in torch's own spelling, the grammar of c10's `parseSchema`:
 * `[namespace::]name[.overload](arguments) -> returns`.
 *
 * @throws SchemaError with the position of the first character that doesn't fit.
 */
export function parseSchema(text: string): Schema {
  return new Parser(text).schema()
}

class Parser {
  private position = 0

  constructor(private readonly text: string) {}

  schema(): Schema {
    const { namespace, name, overload } = this.operatorName()
    this.expect('(')
    const args: Argument[] = []
    let kwargOnly = false
    let isVararg = false
    if (!this.accept(')')) {
      do {
        if (isVararg) this.fail("')' after '...'", this.skipSpace())
        if (this.accept('...')) isVararg = true
        else if (this.accept('*')) {
          if (kwargOnly) this.fail("an argument (there is a '*' already)", this.position - 1)
          kwargOnly = true
        } else args.push(this.argument(args, kwargOnly))
      } while (this.accept(','))
      this.expect(')', "',' or ')'")
    }
    this.expect('->')
    const isVarret = this.accept('...')
    const returns = isVarret ? [] : this.returns()
    if (this.position < this.text.length) this.fail('nothing more')
    return {
      ...(namespace === undefined ? {} : { namespace }),
      name,
      overload,
      arguments: args,
      isVararg,
      returns,
      isVarret,
    }
  }

  private operatorName() {
    let name = this.identifier('the name of the operator')
    let namespace: string | undefined
    if (this.acceptRaw('::')) {
      namespace = name
      name = this.identifier('the name of the operator')
      while (this.acceptRaw('::')) name += `::${this.identifier('the name of the operator')}`
    }
    const overload = this.acceptRaw('.') ? this.identifier('the name of the overload') : ''
    return { namespace, name, overload }
  }

  private argument(before: readonly Argument[], kwargOnly: boolean): Argument {
    const type = this.type()
    const name = this.identifier("the argument's name")
    const argument = { name, type, kwargOnly }
    if (this.accept('=')) return { ...argument, default: this.literal() }
    const last = before.at(-1)
    if (last?.default && !kwargOnly) this.fail(`a default, since '${last.name}' before it has one`)
    return argument
  }

  private returns(): Return[] {
    if (!this.peek('(')) return [this.return()]
    this.expect('(')
    const list: Return[] = []
    if (this.accept(')')) return list
    do list.push(this.return())
    while (this.accept(','))
    this.expect(')', "',' or ')'")
    return list
  }

  private return(): Return {
    const type = this.type()
    return { type, name: this.atIdentifier() ? this.identifier('a name') : '' }
  }

  private type(): Type {
    let type = this.withAlias(this.baseType())
    for (;;) {
      if (this.accept('?')) type = { kind: 'optional', element: type }
      else if (this.accept('[')) {
        const size = /\d*/y
        size.lastIndex = this.skipSpace()
        const digits = size.exec(this.text)?.[0] ?? ''
        this.position += digits.length
        this.expect(']', digits === '' ? "a size or ']'" : "']'")
        const list: Type = { kind: 'list', element: type, ...(digits === '' ? {} : { size: Number(digits) }) }
        type = this.withAlias(list)
      } else return type
    }
  }

  private baseType(): Type {
    if (this.accept('(')) return { kind: 'tuple', elements: this.types(')') }
    const start = this.skipSpace()
    let name = this.identifier('a type')
    if (name === '__torch__') {
      while (this.acceptRaw('.')) name += `.${this.identifier('the name of a class')}`
      return { kind: 'base', name }
    }
    if (GENERIC_TYPES.has(name)) {
      if (this.acceptRaw('(')) return { kind: 'generic', name, parameters: this.types(')') }
      if (this.acceptRaw('[')) return { kind: 'generic', name, parameters: this.types(']') }
    }
    // c10 takes any word that begins in lower case, as the t of t[], for a type variable.
    if (!BASE_TYPES.has(name) && !/^[a-z]/.test(name))
      this.fail("a type of torch's, as Tensor or float", start)
    return { kind: 'base', name }
  }

  private types(close: ')' | ']'): Type[] {
    const types: Type[] = []
    do types.push(this.type())
    while (this.accept(','))
    this.expect(close, `',' or '${close}'`)
    return types
  }

  /** `(a)`, `(a!)`, `(a|b)`, `(a -> b|c)`, `(a -> *)` directly behind a type. */
  private withAlias(type: Type): Type {
    if (!this.acceptRaw('(')) return type
    const before = this.aliasSets()
    const isWrite = this.accept('!')
    const after = this.accept('->') ? this.aliasSets() : before
    this.expect(')')
    const alias: AliasInfo = { before, after, isWrite }
    return { ...type, alias }
  }

  private aliasSets(): string[] {
    const sets: string[] = []
    do sets.push(this.accept('*') ? '*' : this.identifier('an alias set'))
    while (this.accept('|'))
    return sets
  }

  private literal(): Literal {
    if (this.accept('[')) {
      const items: Literal[] = []
      if (this.accept(']')) return { kind: 'list', items }
      do items.push(this.literal())
      while (this.accept(','))
      this.expect(']', "',' or ']'")
      return { kind: 'list', items }
    }
    const start = this.skipSpace()
    const quote = this.text[start]
    if (quote === '"' || quote === "'") return { kind: 'str', value: this.quoted(quote) }
    const number = /[-+]?(?:inf\b|nan\b|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)j?/y
    number.lastIndex = start
    const digits = number.exec(this.text)?.[0]
    if (digits !== undefined) {
      this.position = start + digits.length
      return numberLiteral(digits)
    }
    const word = this.identifier('a default')
    if (word === 'None') return { kind: 'none' }
    if (word === 'True' || word === 'False') return { kind: 'bool', value: word === 'True' }
    return { kind: 'symbol', name: word }
  }

  private quoted(quote: string): string {
    let value = ''
    this.position++
    for (;;) {
      const char = this.text[this.position]
      if (char === undefined) this.fail(`the closing ${quote}`)
      this.position++
      if (char === quote) return value
      if (char !== '\\') {
        value += char
        continue
      }
      const escaped = this.text[this.position++] ?? ''
      value += ESCAPES[escaped] ?? escaped
    }
  }

  private skipSpace(): number {
    while (this.text[this.position] === ' ') this.position++
    return this.position
  }

  private peek(token: string): boolean {
    return this.text.startsWith(token, this.skipSpace())
  }

  private accept(token: string): boolean {
    if (!this.peek(token)) return false
    this.position += token.length
    return true
  }

  /** As accept, but the token must follow without a space: `add.Tensor`, `Tensor(a!)`. */
  private acceptRaw(token: string): boolean {
    return this.text[this.position] !== ' ' && this.accept(token)
  }

  private expect(token: string, expected = `'${token}'`): void {
    if (!this.accept(token)) this.fail(expected)
  }

  private atIdentifier(): boolean {
    return /[A-Za-z_]/.test(this.text[this.skipSpace()] ?? '')
  }

  private identifier(expected: string): string {
    const word = /[A-Za-z_][A-Za-z0-9_]*/y
    word.lastIndex = this.skipSpace()
    const found = word.exec(this.text)?.[0]
    if (found === undefined) return this.fail(expected)
    this.position += found.length
    return found
  }

  private fail(expected: string, position = this.position): never {
    throw new SchemaError(this.text, position, expected)
  }
}

function numberLiteral(digits: string): Literal {
  if (digits.endsWith('j')) return { kind: 'complex', imaginary: Number(digits.slice(0, -1)) }
  const word = /^([-+]?)(inf|nan)$/.exec(digits)
  if (word) return { kind: 'float', value: word[2] === 'nan' ? NaN : word[1] === '-' ? -Infinity : Infinity }
  if (/[.eE]/.test(digits)) return { kind: 'float', value: Number(digits) }
  const value = Number(digits)
  return { kind: 'int', value: Number.isSafeInteger(value) ? value : BigInt(digits) }
}
