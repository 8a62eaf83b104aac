// SPDX-License-Identifier: Apache-2.0
import { asan } from './asan'
import type { Check } from './check'
import { envs } from './envs'
import { greedy } from './greedy'
import { guards } from './guards'
import { leak } from './leak'
import { pressure } from './pressure'
import { terminate } from './terminate'
import { views } from './views'

/** Every check, by name. */
export const checks: readonly Check[] = [asan, envs, greedy, guards, leak, pressure, terminate, views]
