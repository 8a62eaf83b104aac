// SPDX-License-Identifier: Apache-2.0
//
// Runs the examples of the documentation: every ```ts block of these pages that prints something prints what stands behind its `// →`.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const root = new URL('../../../', import.meta.url)
const pages = ['docs/library.md', 'docs/tensors.md', 'docs/devices.md', 'packages/llama/README.md']
/** Node 20 does not know `using`: TypeScript turns it into what it does. */
const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }

describe.each(pages)('%s', (page) => {
  const text = readFileSync(new URL(page, root), 'utf8')
  const sections = text.split(/^## /m).map((section) => ({
    title: section.slice(0, section.indexOf('\n')),
    code: /```ts\n(.*?)```/s.exec(section)?.[1] ?? '',
  }))
  const printing = sections.filter(({ code }) => code.includes('// → '))
  it('has examples', () => {
    expect(printing).not.toEqual([])
  })
  it.each(printing)('$title', ({ code }) => {
    const expected = [...code.matchAll(/\/\/ → (.*)$/gm)].map((match) => match[1])
    const output = execFileSync(process.execPath, ['--input-type=module', '-'], {
      cwd: fileURLToPath(new URL('../', import.meta.url)),
      input: ts.transpileModule(code, { compilerOptions }).outputText,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    expect(output.trim().split('\n')).toEqual(expected)
  })
})
