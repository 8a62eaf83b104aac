// SPDX-License-Identifier: Apache-2.0
import type { Check } from './check'
import { greedy } from './greedy'
import { leak } from './leak'

/** Every check, by name. */
export const checks: readonly Check[] = [greedy, leak]
