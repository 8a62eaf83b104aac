// SPDX-License-Identifier: Apache-2.0
import type { DType } from '../dtype'
import type { Generator } from '../encoding'
import type { Tensor } from '../tensor'
import type { Labeled } from './labels'

/**
 * The TypeScript function of an operator schema, read from its text:
 *
 * ```ts
 * OpFunction<'rms_norm(Tensor(a!) out, Tensor input, Tensor weight, float epsilon) -> ()'>
 * // (out: Tensor, input: Tensor, weight: Tensor, epsilon: number) => void
 * ```
 *
 * An argument with a default may be left out; arguments behind `*` are the properties of one trailing object; several
 * returns are a tuple; alias marks don't matter here. A type that TypeScript has no value for (TorchScript's classes,
 * tuples, dictionaries) is `unknown`, a name that isn't one of torch's is an {@link UnknownType}.
 */
export type OpFunction<S extends string> = (...args: OpArguments<S>) => OpResult<S>

/**
 * The arguments of a schema as a tuple, labeled with their names where {@link Labeled} knows them. `Types` says what a base
 * type stands for. Of a schema that isn't a literal nothing is known.
 */
export type OpArguments<S extends string, Types extends TypeMap = ArgumentTypes> = string extends S
  ? readonly unknown[]
  : Positional<ArgumentText<S>, Types>

/** The arguments of a schema by name, keyword-only ones among them. */
export type OpArgumentsByName<S extends string, Types extends TypeMap = ArgumentTypes> = string extends S
  ? { readonly [name: string]: Types[keyof TypeMap] | null }
  : Properties<ArgumentText<S>, Types>

/** The names of a schema's arguments. */
export type OpArgumentName<S extends string> = keyof OpArgumentsByName<S> & string

/** What an operator of this schema returns: nothing, a value, or a tuple of values. */
export type OpResult<S extends string> = string extends S
  ? unknown
  : S extends `${string}) -> ${infer R}`
    ? R extends '()'
      ? // biome-ignore lint/suspicious/noConfusingVoidType: it is the return type of a function
        void
      : R extends `(${infer List})`
        ? ResultTuple<List>
        : ResultOf<R>
    : never

/** The operator's name with its overload: `add.Tensor`. */
export type OpName<S extends string> = string extends S
  ? string
  : S extends `${infer Name}(${string}`
    ? Name
    : never

/** What `Tenser` in a schema becomes: no value has this type, and its name tells why. */
export interface UnknownType<Name extends string> {
  readonly unknownSchemaType: Name
}

/** What a base type of the schema language is in TypeScript. */
export interface TypeMap {
  Tensor: unknown
  int: unknown
  SymInt: unknown
  float: unknown
  bool: unknown
  Scalar: unknown
  str: unknown
  ScalarType: unknown
  Device: unknown
  Layout: unknown
  MemoryFormat: unknown
  Generator: unknown
}

/** Base types as a caller passes them. Integers beyond 2^53 are bigints; enumerators go by their Python names. */
export interface ArgumentTypes extends TypeMap {
  Tensor: Tensor
  int: number | bigint
  SymInt: number | bigint
  float: number
  bool: boolean
  Scalar: number | bigint | boolean
  str: string
  ScalarType: DType
  Device: string
  Layout: string
  MemoryFormat: string
  Generator: Generator
}

/** `name(ARGUMENTS) -> …`. An alias mark may hold an arrow, `Tensor(a -> *)`, but never one behind a parenthesis. */
type ArgumentText<S extends string> = S extends `${string}(${infer Text}) -> ${string}` ? Text : never

type Positional<Text extends string, Types extends TypeMap, Done extends unknown[] = []> = Text extends ''
  ? Done
  : Text extends `*, ${infer Keywords}`
    ? Partial<Properties<Keywords, Types>> extends Properties<Keywords, Types>
      ? [...Done, options?: Properties<Keywords, Types>]
      : [...Done, options: Properties<Keywords, Types>]
    : Text extends `${infer Head}, ${infer Tail}`
      ? Head extends `${string}=[${string}`
        ? Positional<AfterList<Text>, Types, [...Done, ...Parameter<Head, Types>]>
        : Positional<Tail, Types, [...Done, ...Parameter<Head, Types>]>
      : [...Done, ...Parameter<Text, Types>]

/** What follows a list default that holds the separator itself: `b=1` in `int[2] a=[0, 1], int b=1`. */
type AfterList<Text extends string> = Text extends `${string}=[${string}], ${infer Tail}` ? Tail : ''

type Parameter<Text extends string, Types extends TypeMap> =
  Unmarked<Text> extends `${infer Type} ${infer Name}`
    ? Name extends `${infer Bare}=${string}`
      ? Partial<Label<Bare, Resolve<Type, Types>>>
      : Label<Name, Resolve<Type, Types>>
    : [UnknownType<Text>]

type Label<Name extends string, T> = Name extends keyof Labeled<T> ? Labeled<T>[Name] : [T]

type Properties<Text extends string, Types extends TypeMap, Done = unknown> = Text extends ''
  ? Flat<Done>
  : Text extends `*, ${infer Rest}`
    ? Properties<Rest, Types, Done>
    : Text extends `${infer Head}, ${infer Tail}`
      ? Head extends `${string}=[${string}`
        ? Properties<AfterList<Text>, Types, Done & Property<Head, Types>>
        : Properties<Tail, Types, Done & Property<Head, Types>>
      : Flat<Done & Property<Text, Types>>

type Property<Text extends string, Types extends TypeMap> =
  Unmarked<Text> extends `${infer Type} ${infer Name}`
    ? Name extends `${infer Bare}=${string}`
      ? { [key in Bare]?: Resolve<Type, Types> }
      : { [key in Name]: Resolve<Type, Types> }
    : never

type Flat<T> = { [key in keyof T]: T[key] }

/** Without the alias mark: `Tensor[] out` for `Tensor(a!)[] out`. A default may hold parentheses only in a string. */
type Unmarked<Text extends string> = Text extends `${infer Before}(${string})${infer After}`
  ? Before extends `${string}=${string}`
    ? Text
    : `${Before}${After}`
  : Text

type Resolve<Type extends string, Types extends TypeMap> = Type extends keyof Types
  ? Types[Type]
  : Type extends `${infer Element}?`
    ? Resolve<Element, Types> | null
    : Type extends `${infer Element}[]`
      ? readonly Resolve<Element, Types>[]
      : Type extends `${infer Element}[${number}]`
        ? readonly Resolve<Element, Types>[] | Resolve<Element, Types>
        : Exotic<Type>

/** TorchScript's types, type variables among them, are real but have no value here. */
type Exotic<Type extends string> = Type extends
  | `__torch__${string}`
  | 't'
  | 'Any'
  | 'Stream'
  | 'Storage'
  | 'Dimname'
  | 'complex'
  | 'SymFloat'
  | 'SymBool'
  | 'number'
  | 'QScheme'
  ? unknown
  : UnknownType<Type>

type ResultTuple<
  List extends string,
  Done extends unknown[] = [],
> = List extends `${infer Head}, ${infer Tail}`
  ? ResultTuple<Tail, [...Done, ResultOf<Head>]>
  : [...Done, ResultOf<List>]

type ResultOf<Text extends string> =
  Unmarked<Text> extends `${infer Type} ${string}`
    ? Result<Type>
    : Unmarked<Text> extends infer Type extends string
      ? Result<Type>
      : never

/** As {@link Resolve}, but what comes back is an array that the caller owns. */
type Result<Type extends string> = Type extends keyof ArgumentTypes
  ? ArgumentTypes[Type]
  : Type extends `${infer Element}?`
    ? Result<Element> | null
    : Type extends `${infer Element}[${string}]`
      ? Result<Element>[]
      : Exotic<Type>
