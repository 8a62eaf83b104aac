// SPDX-License-Identifier: Apache-2.0
//
// Runs the examples of the documentation: every ```ts block of these pages, and what it prints is what stands behind its `// →`.
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const docs = new URL('../../../docs/', import.meta.url)
/** Node 20 does not know `using`: TypeScript turns it into what it does. */
const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }

describe.each(['library.md', 'tensors.md', 'devices.md'])('docs/%s', (page) => {
  const text = readFileSync(new URL(page, docs), 'utf8')
  const sections = text.split(/^## /m).map((section) => ({
    title: section.slice(0, section.indexOf('\n')),
    code: /```ts\n(.*?)```/s.exec(section)?.[1] ?? '',
  }))
  it.each(sections.filter(({ code }) => code !== ''))('$title', ({ code }) => {
    const expected = [...code.matchAll(/\/\/ → (.*)$/gm)].map((match) => match[1])
    expect(expected.length).toBeGreaterThan(0)
    const output = execFileSync(process.execPath, ['--input-type=module', '-'], {
      cwd: fileURLToPath(new URL('../', import.meta.url)),
      input: ts.transpileModule(code, { compilerOptions }).outputText,
      encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    expect(output.trim().split('\n')).toEqual(expected)
  })
})
