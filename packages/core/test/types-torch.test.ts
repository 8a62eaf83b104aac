// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { listOps } from '@vllm-ops/core'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const folder = fileURLToPath(new URL('.', import.meta.url))
const EXPECTED = /\/\/ @ts-expect-error .*/g

/** The lines of the claims that the compiler refuses, with every text replaced. */
function refused(replace: (text: string) => string): number[] {
  const config = ts.getParsedCommandLineOfConfigFile(
    `${folder}../tsconfig.json`,
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: ({ messageText }) => expect.fail(String(messageText)) },
  )
  const path = `${folder}types-torch.ts`
  const host = ts.createCompilerHost(config?.options ?? {})
  const { readFile } = host
  host.readFile = (name) => (name === path ? replace(readFile(name) ?? '') : readFile(name))
  const program = ts.createProgram([path], config?.options ?? {}, host)
  const source = program.getSourceFile(path) ?? expect.fail('no claims')
  return program
    .getSemanticDiagnostics(source)
    .map(({ start }) => source.getLineAndCharacterOfPosition(start ?? 0).line + 1)
}

describe('the types of calls', () => {
  it('let right calls pass and refuse every wrong one', { timeout: 60_000 }, () => {
    expect(refused((text) => text)).toEqual([])
    const text = ts.sys.readFile(`${folder}types-torch.ts`) ?? ''
    const wrong = text.split('\n').flatMap((line, i) => (line.includes('@ts-expect-error') ? [i + 2] : []))
    expect(wrong.length).toBeGreaterThan(8)
    expect(refused((claims) => claims.replace(EXPECTED, '//'))).toEqual(wrong)
  })

  it('name ops that are there', () => {
    const names = (ts.sys.readFile(`${folder}../src/aten.ts`) ?? '').matchAll(/\| '(\w+)'/g)
    const there = new Set(listOps('aten').map(({ name }) => name.slice('aten::'.length)))
    const known = Array.from(names, ([, name]) => name!)
    expect(known.length).toBeGreaterThan(100)
    expect(known.filter((name) => !there.has(name))).toEqual([])
  })
})
