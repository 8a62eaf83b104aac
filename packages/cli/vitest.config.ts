// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config'

// The tests start the program, which loads the model: several seconds on a busy machine with two cores.
export default defineConfig({
  test: { globalSetup: './test/global-setup.ts', testTimeout: 120_000, hookTimeout: 120_000 },
})
