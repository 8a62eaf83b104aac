// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

export default defineConfig({
  // The testing entry imports the package by its name: here that is the source, of which there must be one copy.
  resolve: {
    alias: [
      { find: /^@vllm-ops\/core$/, replacement: fileURLToPath(new URL('src/index.ts', import.meta.url)) },
    ],
  },
})
