// SPDX-License-Identifier: Apache-2.0
import type { Return, Schema, Type } from './ast'
import { parseSchema } from './parse'
import { formatSchema } from './print'

/** What a base type is in a declaration. What is not listed has no value in TypeScript: `unknown`. */
const BASE: Readonly<Record<string, string>> = {
  Tensor: 'Tensor',
  int: 'Int',
  SymInt: 'Int',
  float: 'Float | number',
  bool: 'boolean',
  Scalar: 'Scalar',
  str: 'string',
  ScalarType: 'DType',
  Device: 'string',
  Layout: 'string',
  MemoryFormat: 'string',
  Generator: 'Generator',
}

// Names of a schema that TypeScript keeps for itself.
const RESERVED = new Set([
  'default',
  'function',
  'in',
  'new',
  'this',
  'var',
  'with',
  'delete',
  'enum',
  'import',
])

/**
 * A declaration file with the types and schemas of a namespace's ops. The compiler then knows `torch.<namespace>.<op>` and each of its
 * overloads by their arguments and results, and refuses wrong calls; names that the namespace doesn't have stay as they are.
 *
 * @param namespace as in the dispatcher: `aten`
 * @param schemas of its ops, as `listOps` gives them
 * @param origin where the ops were found, for the first line
 * @throws {SchemaError} for a schema that cannot be read
 */
export function declareOps(namespace: string, schemas: readonly string[], origin: string): string {
  const ops = new Map<string, Schema[]>()
  for (const schema of schemas.map(parseSchema))
    ops.set(schema.name, [...(ops.get(schema.name) ?? []), schema])
  const all = [...ops.keys()].sort().map((name) => declareOp(name, ops.get(name)!))
  return `// ${origin}
import type { Complex, DType, Float, Generator, OpInfo, Tensor } from '@vllm-ops/core'

type Int = number | bigint
type Scalar = number | bigint | boolean | Complex | Float

${all.flatMap(({ overloads }) => overloads).join('\n')}
interface Ops {
${all.map(({ member }) => member).join('\n')}
}

declare module '@vllm-ops/core' {
  interface TypedNamespaces {
    readonly ${key(namespace)}: Ops
  }
}
`
}

/** An interface for each overload, and the op as all of them: the compiler has nothing to compute for an op that is not called. */
function declareOp(name: string, schemas: readonly Schema[]): { overloads: string[]; member: string } {
  const overloads = schemas.map((schema) => ({
    schema,
    name: schema.overload || 'default',
    type: `${name}$${schema.overload || 'default'}`.replaceAll(/[^\w$]/g, '$'),
  }))
  const named = overloads.map((overload) => `readonly ${key(overload.name)}: ${overload.type} & OpInfo`)
  return {
    overloads: overloads.map(
      ({ schema, type }) => `interface ${type} {\n  ${docComment(schema)}\n  ${signature(schema)}\n}`,
    ),
    member: `  readonly ${key(name)}: ${overloads.map(({ type }) => type).join(' & ')} & { ${named.join('; ')} }`,
  }
}

/** The schema as documentation, and what the call writes in words. */
function docComment(schema: Schema): string {
  const written = schema.arguments.filter(({ type }) => writes(type)).map(({ name }) => `\`${name}\``)
  const note = written.length > 0 ? ` Writes ${written.join(', ')}.` : ''
  const text = formatSchema(schema)
    .replace(/^\w+::/, '')
    .replaceAll('*/', '*\\/')
  return `/** \`${text}\`.${note} */`
}

function writes(type: Type): boolean {
  if (type.alias?.isWrite) return true
  return (type.kind === 'list' || type.kind === 'optional') && writes(type.element)
}

function signature(schema: Schema): string {
  const positional = schema.arguments.filter(({ kwargOnly }) => !kwargOnly)
  const keywords = schema.arguments.filter(({ kwargOnly }) => kwargOnly)
  // What may be left out can stand only before what may be left out too.
  const firstOptional = positional.findLastIndex((argument) => argument.default === undefined) + 1
  const names = positional.map(({ name }) => (RESERVED.has(name) ? `${name}_` : name))
  const parameters = positional.map((argument, i) => {
    // Some schemas name two arguments alike.
    const name = names.indexOf(names[i]!) < i ? `${names[i]}${i}` : names[i]!
    const type = argumentType(argument.type)
    if (i >= firstOptional) return `${name}?: ${type}`
    return `${name}: ${argument.default === undefined ? type : `${type} | undefined`}`
  })
  const options = keywords.map(
    (argument) =>
      `${key(argument.name)}${argument.default === undefined ? '' : '?'}: ${argumentType(argument.type)}`,
  )
  if (options.length > 0) {
    const needed = keywords.some((argument) => argument.default === undefined)
    parameters.push(...optionsParameter(options.join('; '), needed, firstOptional < positional.length))
  }
  return `(${parameters.join(', ')}): ${resultType(schema.returns)}`
}

/** The trailing object. Where it is needed behind arguments that may be left out, the compiler can only be told that it may be. */
function optionsParameter(members: string, needed: boolean, behindOptional: boolean): string[] {
  return [`options${needed && !behindOptional ? '' : '?'}: { ${members} }`]
}

function argumentType(type: Type): string {
  switch (type.kind) {
    case 'base':
      return BASE[type.name] ?? 'unknown'
    case 'optional':
      return `${argumentType(type.element)} | null`
    case 'list': {
      const element = argumentType(type.element)
      const list = `readonly ${/\||^readonly /.test(element) ? `(${element})` : element}[]`
      return type.size !== undefined ? `${list} | ${element}` : list
    }
    default:
      return 'unknown'
  }
}

/** What comes back: arrays are the caller's own, and numbers plain ones. */
function resultType(returns: readonly Return[]): string {
  const types = returns.map(({ type }) => oneResult(type))
  if (types.length === 0) return 'void'
  return types.length === 1 ? types[0]! : `[${types.join(', ')}]`
}

function oneResult(type: Type): string {
  switch (type.kind) {
    case 'base':
      if (type.name === 'float') return 'number'
      return type.name === 'Scalar' ? 'number | bigint | boolean | Complex' : (BASE[type.name] ?? 'unknown')
    case 'optional':
      return `${oneResult(type.element)} | null`
    case 'list': {
      const element = oneResult(type.element)
      return element.includes('|') ? `(${element})[]` : `${element}[]`
    }
    default:
      return 'unknown'
  }
}

function key(name: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name)
}
