// SPDX-License-Identifier: Apache-2.0
import { readdirSync } from 'node:fs'
import { defineConfig } from 'tsup'
import { base } from '../tsup.config.base'

// Programs: main, and those that checks start as processes and worker threads of their own.
const children = readdirSync('src/children').map((file) => `src/children/${file}`)

export default defineConfig({
  ...base,
  entry: ['src/main.ts', ...children],
  format: ['esm'],
  dts: false,
  splitting: true,
  shims: false,
})
