// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'vitest/config'

/** Every package's tests in one run, with one summary; a package with needs of its own has a configuration of its own. */
export default defineConfig({ test: { projects: ['packages/*', 'scripts'] } })
