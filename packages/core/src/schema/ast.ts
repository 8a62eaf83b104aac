// SPDX-License-Identifier: Apache-2.0

/**
 * An operator schema as data: what `c10::FunctionSchema` is in C++.
 * Every object is plain and frozen by type only, so that it can go into JSON (a `bigint` default apart).
 */
export interface Schema {
  /** `aten` in `aten::add.Tensor(…)`; absent where the text has no namespace, as on our cards. */
  readonly namespace?: string
  /** `add` in `aten::add.Tensor(…)`. */
  readonly name: string
  /** `Tensor` in `aten::add.Tensor(…)`; empty for the default overload. */
  readonly overload: string
  readonly arguments: readonly Argument[]
  /** Whether further arguments of any type may follow (`...`), as in `aten::format`. */
  readonly isVararg: boolean
  readonly returns: readonly Return[]
  /** Whether the number and types of the returns are open (`-> ...`). */
  readonly isVarret: boolean
}

export interface Argument {
  readonly name: string
  readonly type: Type
  /** Absent where the caller must pass the argument. */
  readonly default?: Literal
  /** Whether it stands behind `*`: passed by name, in the trailing options object. */
  readonly kwargOnly: boolean
}

export interface Return {
  /** Empty where the schema doesn't name it. */
  readonly name: string
  readonly type: Type
}

/** A type and, where it is marked, the memory it aliases. */
export type Type = (
  | { readonly kind: 'base'; readonly name: string }
  | { readonly kind: 'list'; readonly element: Type; readonly size?: number }
  | { readonly kind: 'optional'; readonly element: Type }
  | { readonly kind: 'tuple'; readonly elements: readonly Type[] }
  /** `Dict(str, Tensor)`, `Future(t)`, `Union[int, float]`, …: TorchScript's, never in our own ops. */
  | { readonly kind: 'generic'; readonly name: string; readonly parameters: readonly Type[] }
) & { readonly alias?: AliasInfo }

/** `(a! -> b|c)`: the alias sets before and after the call, and whether the op writes to the memory. */
export interface AliasInfo {
  readonly before: readonly string[]
  readonly after: readonly string[]
  readonly isWrite: boolean
}

/** A default. Integers and floats differ: for a `Scalar` the kind of number is part of the value. */
export type Literal =
  | { readonly kind: 'none' }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'int'; readonly value: number | bigint }
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'complex'; readonly imaginary: number }
  | { readonly kind: 'str'; readonly value: string }
  /** An enumerator's name, as `contiguous_format` or `Mean` in torch's own declarations. */
  | { readonly kind: 'symbol'; readonly name: string }
  | { readonly kind: 'list'; readonly items: readonly Literal[] }

/** The alias mark of a type: its own, or the one of its elements where it is a list or optional. */
export function aliasOf(type: Type): AliasInfo | undefined {
  if (type.alias) return type.alias
  return type.kind === 'list' || type.kind === 'optional' ? aliasOf(type.element) : undefined
}

/** Whether the op writes to this argument: `Tensor(a!)`, `Tensor(a!)[]`, `Tensor(a!)?`. */
export function isWrite(argument: Argument): boolean {
  return aliasOf(argument.type)?.isWrite ?? false
}
