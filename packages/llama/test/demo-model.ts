// SPDX-License-Identifier: Apache-2.0
import { openGguf } from '../src/gguf/gguf'
import { resolveModel } from '../src/models'

/** The header of the demo model, which `npm test` has fetched into the cache beforehand. */
export const demoFile = resolveModel().then(openGguf)
