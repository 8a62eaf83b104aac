// SPDX-License-Identifier: Apache-2.0
import * as activation from './activation'
import * as attention from './attention'
import * as blocks from './blocks'
import * as cache from './cache'
import type { AnyCard } from './card'
import * as device from './device'
import * as gguf from './gguf'
import * as layernorm from './layernorm'
import * as linear from './linear'
import * as rotary from './rotary'

export {
  type AnyCard,
  type AnyCase,
  type AnyRejection,
  type Aten,
  type CaseValue,
  type Cost,
  defineOp,
  type FloatDType,
  floatDTypes,
  type OpCard,
  type OpCase,
  type OpRejection,
  type TensorShape,
  type Tolerance,
} from './card'
export type { Fill, Random, TensorSpec } from './case'

/** The cards by family: ops that share a definition, and a file of the same name in every package. */
export const families = { activation, layernorm, rotary, cache, blocks, attention, linear, gguf, device }

/** Every card by its op's name. */
export const cardsByName = {
  ...activation,
  ...layernorm,
  ...rotary,
  ...cache,
  ...blocks,
  ...attention,
  ...linear,
  ...gguf,
  ...device,
}

/** Every card, in the order of the families. */
export const cards: readonly AnyCard[] = Object.values(cardsByName)
