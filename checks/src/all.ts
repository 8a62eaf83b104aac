// SPDX-License-Identifier: Apache-2.0
import { abi } from './abi'
import { accelerator } from './accelerator'
import { accounting } from './accounting'
import { asan } from './asan'
import { badcalls } from './badcalls'
import type { Check } from './check'
import { devices } from './devices'
import { envs } from './envs'
import { greedy } from './greedy'
import { guards } from './guards'
import { leak } from './leak'
import { opcheck } from './opcheck'
import { overlap } from './overlap'
import { pressure } from './pressure'
import { profiler } from './profiler'
import { sizes } from './sizes'
import { terminate } from './terminate'
import { torchProfiler } from './torch-profiler'
import { views } from './views'

/** Every check, by name. */
export const checks: readonly Check[] = [
  abi,
  accelerator,
  accounting,
  asan,
  badcalls,
  devices,
  envs,
  greedy,
  guards,
  leak,
  opcheck,
  overlap,
  pressure,
  profiler,
  sizes,
  terminate,
  torchProfiler,
  views,
]
