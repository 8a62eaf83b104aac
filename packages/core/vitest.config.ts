// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const source = (name: string) => fileURLToPath(new URL(`src/${name}.ts`, import.meta.url))

export default defineConfig({
  // The testing entry imports the package by its name: here that is the source, of which there must be one copy.
  resolve: {
    alias: [
      { find: /^@vllm-ops\/core$/, replacement: source('index') },
      { find: /^@vllm-ops\/core\/internal$/, replacement: source('internal') },
    ],
  },
  // Many tests start processes and threads that open libtorch, on machines that may do other work at the time.
  test: { testTimeout: 120_000, hookTimeout: 120_000 },
})
