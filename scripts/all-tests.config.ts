// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

/**
 * Every package's tests in one run, with one summary; a package with needs of its own has a configuration of its own. (Not a
 * vitest.config.ts at the root, which would be found, and meant, from within every package.)
 */
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: { projects: ['packages/*', 'examples/*', 'checks', 'scripts'] },
})
