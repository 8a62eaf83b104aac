// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The built packages are loaded by Node itself: a second, transformed copy of core would not be the one that backends import.
  test: { server: { deps: { external: [/\/packages\/\w+\/dist\//] } } },
})
