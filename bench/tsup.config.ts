// SPDX-License-Identifier: Apache-2.0
import { defineConfig } from 'tsup'
import { base } from '../tsup.config.base'

// Programs: main, and what the llama benchmark starts once per round and runner, and the part `call` of cuda once per turn.
export default defineConfig({
  ...base,
  entry: {
    main: 'src/main.ts',
    'vllm-ops': 'src/llama/vllm-ops.ts',
    'node-llama-cpp': 'src/llama/node-llama-cpp.ts',
    'node-call': 'src/cuda/node-call.ts',
  },
  format: ['esm'],
  dts: false,
  // Found at run time: it looks for its binaries beside itself.
  external: ['node-llama-cpp'],
  splitting: true,
  shims: false,
})
