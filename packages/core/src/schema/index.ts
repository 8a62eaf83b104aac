// SPDX-License-Identifier: Apache-2.0
export {
  type AliasInfo,
  type Argument,
  aliasOf,
  isWrite,
  type Literal,
  type Return,
  type Schema,
  type Type,
} from './ast'
export { declareOps } from './declare'
export { parseSchema, SchemaError } from './parse'
export { formatLiteral, formatSchema, formatType } from './print'
export type {
  ArgumentTypes,
  OpArgumentName,
  OpArguments,
  OpArgumentsByName,
  OpFunction,
  OpName,
  OpResult,
  TypeMap,
  UnknownType,
} from './types'
