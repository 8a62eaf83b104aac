// SPDX-License-Identifier: Apache-2.0
import { copyFileSync, existsSync, writeFileSync } from 'node:fs'
import { defineConfig } from 'tsup'
import { base } from '../../tsup.config.base'

/** Our entries, by the name of their file in dist. */
const entries = ['index', 'testing'].filter((name) => existsSync(`src/${name}.ts`))

export default defineConfig({
  ...base,
  entry: entries.map((name) => `src/${name}.ts`),
  // One copy of the package in a process, whichever way it is imported: the ESM entries re-export the CommonJS ones.
  format: ['cjs'],
  external: ['@vllm-ops/core'],
  onSuccess: async () => {
    for (const name of entries) {
      const comment = '// SPDX-License-Identifier: Apache-2.0\n'
      writeFileSync(`dist/${name}.js`, `${comment}export * from './${name}.cjs'\n`)
      copyFileSync(`dist/${name}.d.cts`, `dist/${name}.d.ts`)
    }
  },
})
