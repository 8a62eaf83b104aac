// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { declareOps, listOps } from '@vllm-ops/core'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const folder = fileURLToPath(new URL('.', import.meta.url))
const CLAIMS = `${folder}types-declared.ts`
const DECLARED = `${folder}aten.d.ts`
const aten = declareOps(
  'aten',
  listOps('aten').map(({ schema }) => schema),
  'for a test',
)

const namespaces = [...new Set(listOps().map(({ name }) => name.slice(0, name.indexOf('::'))))].filter(
  (namespace) => namespace !== 'aten',
)

/** The lines at which the compiler finds an error, by file, with a declaration of aten beside the claims. */
function refused(
  declaration: string,
  claims = ts.sys.readFile(CLAIMS) ?? '',
): { claims: number[]; own: string[] } {
  const config = ts.getParsedCommandLineOfConfigFile(
    `${folder}../tsconfig.json`,
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: ({ messageText }) => expect.fail(String(messageText)) },
  )
  const options = { ...config?.options, skipLibCheck: false, skipDefaultLibCheck: true }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile } = host
  const texts: Readonly<Record<string, string>> = { [CLAIMS]: claims, [DECLARED]: declaration }
  host.fileExists = (name) => name in texts || fileExists(name)
  host.readFile = (name) => texts[name] ?? readFile(name)
  const program = ts.createProgram([CLAIMS, DECLARED], options, host)
  const found = (name: string) => {
    const source = program.getSourceFile(name) ?? expect.fail(`no ${name}`)
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      (problem) => ({
        line: source.getLineAndCharacterOfPosition(problem.start ?? 0).line + 1,
        text: ts.flattenDiagnosticMessageText(problem.messageText, '\n'),
      }),
    )
  }
  return { claims: found(CLAIMS).map(({ line }) => line), own: found(DECLARED).map(({ text }) => text) }
}

describe('a declaration of the ops of aten', () => {
  it('is one that the compiler takes, and lets right calls pass and no wrong one', {
    timeout: 300_000,
  }, () => {
    expect(refused(aten)).toEqual({ claims: [], own: [] })
    const claims = ts.sys.readFile(CLAIMS) ?? ''
    const wrong = claims.split('\n').flatMap((line, i) => (line.includes('@ts-expect-error') ? [i + 2] : []))
    expect(refused(aten, claims.replace(/\/\/ @ts-expect-error .*/g, '//')).claims).toEqual(wrong)
  })

  it.each(namespaces)('has its like for %s', { timeout: 60_000 }, (namespace) => {
    const schemas = listOps(namespace).map(({ schema }) => schema)
    expect(schemas).not.toEqual([])
    const claims = `import { torch } from '@vllm-ops/core'\nexport const all = torch.${namespace}\n`
    expect(refused(declareOps(namespace, schemas, 'for a test'), claims)).toEqual({ claims: [], own: [] })
  })

  it('has every overload with its schema as documentation', () => {
    expect(listOps('aten').length).toBeGreaterThan(2000)
    expect(aten.match(/^interface \S+\$\S+ \{\n {2}\/\*\* `/gm)).toHaveLength(listOps('aten').length)
    expect(aten).toContain(
      '/** `add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)`. Writes `self`. */',
    )
  })
})
