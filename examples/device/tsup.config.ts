// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'tsup'
import { base } from '../../tsup.config.base'

export default defineConfig({
  ...base,
  entry: ['src/index.ts', 'src/register.ts'],
  format: ['esm'],
  splitting: true,
  shims: false,
})
