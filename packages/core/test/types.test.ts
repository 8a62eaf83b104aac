// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, it } from 'vitest'
import { cards, parseSchema } from '../src/index'

const folder = fileURLToPath(new URL('.', import.meta.url))
const claims = ts.sys.readFile(`${folder}types-schema.ts`) ?? ''
const schemas = cards.map(({ schema }) => ({ schema, ...parseSchema(schema) }))

// Every op is declared and called, so that every schema is parsed by the compiler.
const calls = schemas.map(
  ({ schema, name, arguments: args }) =>
    `declare const ${name}: OpFunction<'${schema}'>\n${name}(${args.map(() => 'anything').join(', ')})\n`,
)
const imports = "import type { OpFunction, Tensor } from '../src/index'\ndeclare const anything: never\n"

/** Files of this folder that exist only here. */
const texts: Readonly<Record<string, string>> = {
  'claims.ts': claims,
  'wrong-claim.ts': claims.replace('epsilon: number) => void', 'epsilon: string) => void'),
  'names.ts': "import type { ops } from '../src/index'\nexport declare const all: typeof ops\n",
  'one-op.ts': `${imports}export declare const f: OpFunction<'f(Tensor x) -> Tensor'>\nexport const y: Tensor = f(anything)\n`,
  'all-ops.ts': `${imports}${calls.join('')}export {}\n`,
}

const program = (() => {
  const config = ts.getParsedCommandLineOfConfigFile(
    `${folder}../tsconfig.json`,
    {},
    { ...ts.sys, onUnRecoverableConfigFileDiagnostic: ({ messageText }) => expect.fail(String(messageText)) },
  )
  const host = ts.createCompilerHost(config?.options ?? {})
  const { fileExists, readFile } = host
  const textAt = (path: string) => (path.startsWith(folder) ? texts[path.slice(folder.length)] : undefined)
  host.fileExists = (path) => textAt(path) !== undefined || fileExists(path)
  host.readFile = (path) => textAt(path) ?? readFile(path)
  return ts.createProgram(
    Object.keys(texts).map((name) => folder + name),
    config?.options ?? {},
    host,
  )
})()

function source(name: string): ts.SourceFile {
  return program.getSourceFile(folder + name) ?? expect.fail(`no source ${name}`)
}

/** What the compiler says about a file, and how many types it instantiated for that. */
function check(name: string) {
  const before = program.getInstantiationCount()
  const messages = program
    .getSemanticDiagnostics(source(name))
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
  return { messages, instantiations: program.getInstantiationCount() - before }
}

describe('the types of schemas', () => {
  // First, while the compiler has seen nothing else.
  it('cost the compiler little', () => {
    expect(check('one-op.ts').messages).toEqual([])
    const { messages, instantiations } = check('all-ops.ts')
    expect(messages).toEqual([])
    const names = schemas.reduce((total, { arguments: args }) => total + args.length, 0)
    // Measured: 56 for each argument. At a hundred ops of ten arguments that is less than a typical test file of vitest costs.
    expect(instantiations / names).toBeGreaterThan(10)
    expect(instantiations / names).toBeLessThan(80)
  }, 60_000)

  it('are what types-schema.ts says', () => {
    expect(check('claims.ts').messages).toEqual([])
  }, 60_000)

  it('are really compared: a wrong claim is an error', () => {
    expect(check('wrong-claim.ts').messages).toEqual([
      expect.stringMatching(/'false' does not satisfy .*'true'/),
    ])
  }, 60_000)

  it('show the names of arguments in editors', () => {
    const checker = program.getTypeChecker()
    const [statement] = source('names.ts').statements.filter(ts.isVariableStatement)
    const declaration = statement?.declarationList.declarations[0] ?? expect.fail('no declaration')
    const shown = new Map(
      checker
        .getTypeAtLocation(declaration)
        .getProperties()
        .map((op) => {
          const [rest] = checker.getTypeOfSymbol(op).getCallSignatures()[0]?.getParameters() ?? []
          const tuple = checker.getTypeOfSymbol(rest ?? op) as ts.TupleTypeReference
          return [op.name, tuple.target.labeledElementDeclarations?.map((label) => label?.name.getText())]
        }),
    )
    expect(shown.size).toBe(schemas.length)
    for (const { name, arguments: args } of schemas)
      expect(shown.get(name), name).toEqual(args.map((argument) => argument.name))
  }, 60_000)
})
