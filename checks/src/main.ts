// SPDX-License-Identifier: Apache-2.0
//
// npm run check -- NAME [options]
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { checks } from './all'
import { type Check, type Options, UsageError } from './check'

const USAGE_EXIT_CODE = 2

async function main(): Promise<void> {
  const [name, ...args] = process.argv.slice(2)
  if (name === undefined || name === '--help') return list(process.stdout)
  const check = checks.find((candidate) => candidate.name === name)
  if (!check) throw new UsageError(`no check '${name}'`)
  const options = parse(check, args)
  if (!options) return describe(check)
  const start = performance.now()
  const { passed, figures, failures } = await check.run(options)
  const seconds = Math.round((performance.now() - start) / 100) / 10
  process.stdout.write(
    `${JSON.stringify({ check: check.name, passed, options, ...figures, failures, seconds })}\n`,
  )
  process.exitCode = passed ? 0 : 1
}

function parse(check: Check, args: string[]): Options | undefined {
  const options: ParseArgsConfig['options'] = { help: { type: 'boolean' } }
  for (const { name } of check.options) options[name] = { type: 'string' }
  let values: ReturnType<typeof parseArgs>['values']
  try {
    values = parseArgs({ args, options }).values
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error))
  }
  if (values.help) return undefined
  const given: Record<string, string> = {}
  for (const { name, fallback } of check.options) if (fallback !== undefined) given[name] = fallback
  for (const [name, value] of Object.entries(values)) if (typeof value === 'string') given[name] = value
  return given
}

function list(stream: NodeJS.WriteStream): void {
  const width = Math.max(...checks.map(({ name }) => name.length))
  const lines = checks.map((check) => `  ${check.name.padEnd(width)}  ${check.describe}`)
  stream.write(`usage: npm run check -- NAME [options], or NAME --help\n\n${lines.join('\n')}\n`)
}

function describe({ name, describe, options }: Check): void {
  const lines = options.map((option) => {
    const fallback = option.fallback === undefined ? '' : ` (${option.fallback})`
    return `  --${option.name} ${option.value}  ${option.help}${fallback}`
  })
  process.stdout.write(`${name}: ${describe}\n${lines.join('\n')}\n`)
}

try {
  await main()
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  process.stderr.write(`${error.message}\n`)
  list(process.stderr)
  process.exitCode = USAGE_EXIT_CODE
}
