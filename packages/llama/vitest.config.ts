// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    // Most time goes into ops that use all cores: files at the same time would only wait for each other.
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // The built packages are loaded by Node itself: a second, transformed copy of core would not be the one that backends import.
    server: { deps: { external: [/\/packages\/\w+\/dist\//] } },
  },
})
