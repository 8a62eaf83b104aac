// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { defineConfig, type Options } from 'tsup'
import { base } from '../../tsup.config.base'

const entries = ['index', 'internal', 'testing'] as const
const COMMENT = '// SPDX-License-Identifier: Apache-2.0\n'

/** What a built CommonJS module exports. */
function namesOf(entry: string): string {
  const list = `Object.keys(require('./dist/${entry}.cjs')).join(', ')`
  return execFileSync(process.execPath, ['-p', list], { encoding: 'utf8' }).trim()
}

// Not by tsup's `clean`, which takes away the declarations that are written below.
rmSync('dist', { recursive: true, force: true })

const library: Options = {
  ...base,
  clean: false,
  // One copy of the package in a thread (src/instance.ts): `index` and `internal` hand out parts of the one instance, and ESM entries
  // re-export the CommonJS ones.
  entry: ['src/instance.ts', 'src/testing.ts'],
  format: ['cjs'],
  external: [/^@vllm-ops\/core/],
  dts: { entry: entries.map((name) => `src/${name}.ts`), compilerOptions: { stripInternal: true } },
  onSuccess: async () => {
    // In two statements: Node reads through all of what `module.exports = require(…)` names, for exports that are not there.
    const part = (name: string) =>
      `${COMMENT}const { instance } = require('./instance.cjs')\nmodule.exports = instance.${name}\n`
    writeFileSync('dist/index.cjs', part('core'))
    writeFileSync('dist/internal.cjs', part('internal'))
    for (const name of entries) {
      const exported = `${COMMENT}import all from './${name}.cjs'\n\nexport const { ${namesOf(name)} } = all\n`
      writeFileSync(`dist/${name}.js`, exported)
      writeFileSync(`dist/${name}.d.ts`, `${COMMENT}export * from './${name}.cjs'\n`)
    }
  },
}

/** The script of the page that shows a profile; `formatHtml` puts it into the page. */
const page: Options = {
  ...{
    entry: { 'profile-page': 'browser/page.ts' },
    format: ['iife'],
    platform: 'browser',
    target: 'es2022',
  },
  ...{ loader: { '.css': 'text' }, minify: true, clean: false, tsconfig: 'browser/tsconfig.json' },
}

export default defineConfig([library, page])
