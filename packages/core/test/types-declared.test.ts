// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import { declareOps, listOps } from '@vllm-ops/core'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'

const folder = fileURLToPath(new URL('.', import.meta.url))
const CLAIMS = `${folder}types-declared.ts`
const declared = (namespace: string) =>
  declareOps(
    namespace,
    listOps(namespace).map(({ schema }) => schema),
    'for a test',
  )
const aten = declared('aten')

/** The lines at which the compiler finds an error in the claims, and its errors in the declarations beside them. */
function refused(
  declarations: readonly string[],
  claims = ts.sys.readFile(CLAIMS) ?? '',
): { claims: number[]; own: string[]; instantiations: number } {
  const config = ts.getParsedCommandLineOfConfigFile(
    `${folder}../tsconfig.json`,
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: ({ messageText }) => expect.fail(String(messageText)) },
  )
  const options = { ...config?.options, skipLibCheck: false, skipDefaultLibCheck: true }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile } = host
  const files = declarations.map((text, i) => [`${folder}declared-${i}.d.ts`, text] as const)
  const texts: Readonly<Record<string, string>> = { [CLAIMS]: claims, ...Object.fromEntries(files) }
  host.fileExists = (name) => name in texts || fileExists(name)
  host.readFile = (name) => texts[name] ?? readFile(name)
  const program = ts.createProgram(Object.keys(texts), options, host)
  const found = (name: string) => {
    const source = program.getSourceFile(name) ?? expect.fail(`no ${name}`)
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      (problem) => ({
        line: source.getLineAndCharacterOfPosition(problem.start ?? 0).line + 1,
        text: ts.flattenDiagnosticMessageText(problem.messageText, '\n'),
      }),
    )
  }
  const claimed = found(CLAIMS).map(({ line }) => line)
  const instantiations = program.getInstantiationCount()
  const own = files.flatMap(([name]) => found(name).map(({ text }) => text))
  return { claims: claimed, own, instantiations }
}

describe('a declaration of ops', () => {
  it('is one that the compiler takes, and lets right calls pass and no wrong one', {
    timeout: 300_000,
  }, () => {
    expect(refused([aten])).toMatchObject({ claims: [], own: [] })
    const claims = ts.sys.readFile(CLAIMS) ?? ''
    const wrong = claims.split('\n').flatMap((line, i) => (line.includes('@ts-expect-error') ? [i + 2] : []))
    expect(refused([aten], claims.replace(/\/\/ @ts-expect-error .*/g, '//')).claims).toEqual(wrong)
  })

  it('has its like for every other namespace', { timeout: 300_000 }, () => {
    const names = new Set(listOps().map(({ name }) => name.slice(0, name.indexOf('::'))))
    names.delete('aten')
    expect(names.size).toBeGreaterThan(10)
    const uses = Array.from(names, (name) => `export const ${name}_ = torch.${name}\n`)
    const claims = `import { torch } from '@vllm-ops/core'\n${uses.join('')}`
    expect(refused(Array.from(names, declared), claims)).toMatchObject({ claims: [], own: [] })
  })

  // `npm run bench -- types` has the time.
  it('leaves the compiler little to compute for fifty ops', { timeout: 60_000 }, () => {
    const claims = ts.sys.readFile(CLAIMS) ?? ''
    const right = claims.slice(0, claims.indexOf('/** Wrong calls'))
    const { claims: wrong, instantiations } = refused([aten], right)
    expect(wrong).toEqual([])
    // Measured: 123 more than a program without calls. With types that were computed from the overloads it was 3422.
    expect(instantiations).toBeLessThan(500)
  })

  it('has every overload with its schema as documentation', () => {
    expect(listOps('aten').length).toBeGreaterThan(2000)
    expect(aten.match(/^interface \S+\$\S+ \{\n {2}\/\*\* `/gm)).toHaveLength(listOps('aten').length)
    expect(aten).toContain(
      '/** `add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)`. Writes `self`. */',
    )
  })
})
