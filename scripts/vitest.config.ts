// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config'

/** Many tests start processes, which takes seconds on a machine that is busy otherwise. */
export default defineConfig({ test: { testTimeout: 60_000, hookTimeout: 60_000 } })
