// SPDX-License-Identifier: Apache-2.0
// The forms in which the profile commands give out a record: on stdout, and in files by their names' ends.
import { readFile, writeFile } from 'node:fs/promises'
import type { ColumnName, GroupBy, ProfileRecord, ReportOptions } from '@vllm-ops/core'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { CliError, explain } from './errors'
import { decimal, integer } from './options'
import { hasColor, outputWidth, say } from './terminal'

/** What the options of {@link addOutputOptions} give. */
export interface OutputOptions {
  table: 'layers' | 'model' | 'summary'
  format: Format
  cols?: string[]
  group?: GroupBy
  sort?: string
  minShare?: number
  match?: RegExp
  fold?: true
  depth?: number
  opDepth?: number
  width?: number
  /** A file, or true for stdout. */
  json?: string | true
  out: string[]
}

const FORMATS = ['text', 'markdown', 'csv', 'json', 'classic', 'stacks', 'chrome', 'html'] as const
type Format = (typeof FORMATS)[number]

/** The form of a file by the end of its name; the longer ends first. */
const ENDS: readonly (readonly [string, Format])[] = [
  ['.trace.json', 'chrome'],
  ['.classic.json', 'classic'],
  ['.json', 'json'],
  ['.html', 'html'],
  ['.md', 'markdown'],
  ['.csv', 'csv'],
  ['.folded', 'stacks'],
  ['.txt', 'text'],
]

/** Adds the options that say what of a record is shown, and how. */
export function addOutputOptions(command: Command): Command {
  const groups = ['name', 'shape', 'class', 'kernel']
  return command
    .addOption(
      new Option('--table <table>', 'the layered table, or one of the classic tables by their column names')
        .choices(['layers', 'model', 'summary'])
        .default('layers'),
    )
    .option('--cols <names>', 'columns, separated by commas (--cols help lists them)', list)
    .addOption(new Option('--group <by>', 'one row for all that have this in common').choices(groups))
    .option('--sort <column>', 'rows with more of this first')
    .option('--fold', 'show repeated layers as one row, with the quickest and the slowest')
    .option('--depth <n>', 'levels of rows to show', integer({ min: 1 }))
    .option('--op-depth <n>', 'levels of ops to show below a module', integer({ min: 1 }))
    .option('--min-share <percent>', 'rows below this share become one', decimal({ min: 0, max: 100 }))
    .option('--match <pattern>', 'rows whose name, path or types match (a regular expression)', pattern)
    .option('--width <n>', 'columns that a line may fill (default: the terminal)', integer({ min: 40 }))
    .addOption(new Option('--format <format>', 'what stdout gets').choices(FORMATS).default('text'))
    .option(
      '--out <file>',
      `write to a file too, in the form of its end: ${ENDS.map(([end]) => end).join(', ')}; may be given again`,
      (file: string, files: string[]) => [...files, outputFile(file)],
      [],
    )
    .option(
      '--json [file]',
      'write the record as JSON to a file too; without a file, print JSON instead of the table',
    )
}

/** Whether a timeline is asked for, which needs every event. */
export function wantsTrace({ format, out }: OutputOptions): boolean {
  return format === 'chrome' || out.some((file) => formatOf(file) === 'chrome')
}

/** Prints the record as asked for, then writes the files; a file that cannot be written loses nothing of what is printed. */
export async function output(record: ProfileRecord, options: OutputOptions): Promise<void> {
  const toStdout = options.json === true || options.json === '-'
  process.stdout.write(await render(record, toStdout ? 'json' : options.format, options, true))
  const files = [...options.out, ...(typeof options.json === 'string' && !toStdout ? [options.json] : [])]
  for (const file of files) await save(record, file, options)
}

/** Reads a record that `--json` or `--out` wrote. */
export async function readRecord(file: string): Promise<ProfileRecord> {
  const { readProfile } = await import('@vllm-ops/core')
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const { code, message } = explain(error)
    throw new CliError(
      code,
      `the record was not read: ${message}`,
      'Give a file that profile --json FILE wrote',
    )
  }
  return readProfile(text, file)
}

async function render(
  record: ProfileRecord,
  format: Format,
  options: OutputOptions,
  isStdout: boolean,
): Promise<string> {
  const core = await import('@vllm-ops/core')
  const { fold, depth, opDepth, group, minShare, match, sort, cols } = options
  const view: ReportOptions = {
    ...{ fold, depth, opDepth, group, minShare, match },
    ...{ sort: sort === undefined ? undefined : columnName(sort, core.COLUMN_NAMES) },
    ...{ columns: cols?.map((name) => columnName(name, core.COLUMN_NAMES)) },
    ...{ width: options.width ?? (isStdout ? outputWidth() : undefined) },
  }
  const color = isStdout && hasColor(process.stdout)
  switch (format) {
    case 'text':
      return options.table === 'layers'
        ? core.formatProfile(record, { ...view, color })
        : core.formatClassic(record, options.table, view)
    case 'markdown':
      return core.formatMarkdown(record, view)
    case 'csv':
      return core.formatCsv(record, view)
    // On one line: a model's record has thousands of rows.
    case 'json':
      return `${JSON.stringify({ ...record, trace: undefined })}\n`
    case 'classic':
      return `${JSON.stringify(core.classicProfile(record))}\n`
    case 'stacks':
      return core.collapsedStacks(record, { fold, depth, opDepth })
    case 'chrome':
      return `${JSON.stringify(core.chromeTrace(record))}\n`
    case 'html':
      return core.formatHtml(record)
  }
}

async function save(record: ProfileRecord, file: string, options: OutputOptions): Promise<void> {
  const format = formatOf(file) ?? 'json'
  const text = await render(record, format, options, false)
  try {
    await writeFile(file, text)
  } catch (error) {
    const { code, message } = explain(error)
    throw new CliError(
      code,
      `the record was not written: ${message}`,
      'Give a file that can be written: --json FILE, --out FILE',
    )
  }
  say(`${format === 'json' ? 'record' : format}: ${file}`)
}

function formatOf(file: string): Format | undefined {
  return ENDS.find(([end]) => file.endsWith(end))?.[1]
}

function outputFile(file: string): string {
  if (formatOf(file)) return file
  const ends = ENDS.map(([end]) => end).join(', ')
  throw new InvalidArgumentError(`Expected a file whose name ends in one of ${ends}, received '${file}'.`)
}

function list(text: string): string[] {
  return text.split(',').map((name) => name.trim())
}

function pattern(text: string): RegExp {
  try {
    return new RegExp(text)
  } catch (error) {
    throw new InvalidArgumentError(
      `Expected a regular expression: ${error instanceof Error ? error.message : error}.`,
    )
  }
}

function columnName(name: string, names: readonly ColumnName[]): ColumnName {
  const found = names.find((known) => known === name)
  if (found) return found
  throw new CliError('E_USAGE', `no column '${name}'`, `Use some of: ${names.join(', ')}`)
}
