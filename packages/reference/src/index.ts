// SPDX-License-Identifier: Apache-2.0
import { createRequire } from 'node:module'
import { type AnyCard, type Backend, cards, definitionOf, Library } from '@vllm-ops/core'
import { NAMESPACE } from '@vllm-ops/core/internal'

const { version } = createRequire(import.meta.url)('../package.json') as { version: string }

/** Kept for the life of the process: the dispatcher calls its kernels. */
let library: Library | undefined

function nameOf({ schema }: AnyCard): string {
  return schema.slice(0, schema.indexOf('('))
}

function register(): void {
  if (library) return
  const made = new Library(NAMESPACE, 'IMPL')
  for (const card of cards)
    if (card.reference) made.impl(nameOf(card), definitionOf(card), 'CompositeExplicitAutograd')
  library = made
}

/** Ops without a definition in aten ops. */
const unsupported = Object.fromEntries(
  cards
    .filter(({ reference }) => !reference)
    .map((card) => [nameOf(card), 'it tells a property of the device, which no tensor op does']),
)

/**
 * Every op of vllm-ops as its definition, in aten ops: slow, and at home on every device that torch has. Where a backend has a
 * kernel of its own, the dispatcher takes that.
 *
 * ```ts
 * import { use } from '@vllm-ops/core'
 * import reference from '@vllm-ops/reference'
 * use(reference)
 * ```
 */
const reference: Backend = {
  name: 'reference',
  dispatchKey: 'CompositeExplicitAutograd',
  version,
  unsupported,
  register,
}
export default reference
