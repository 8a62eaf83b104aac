// SPDX-License-Identifier: Apache-2.0
import { expect, test } from 'vitest'
import { type FetchProgress, showProgress } from '../src'

const FILE = 'demo-1.0-py3-none-any.whl'
const STEPS: FetchProgress[] = [
  { step: 'download', file: FILE, done: 0, total: 50_000_000 },
  { step: 'download', file: FILE, done: 25_000_000, total: 50_000_000 },
  { step: 'extract', file: FILE, done: 25_000_000, total: 100_000_000 },
]

function shown(terminal: { isTTY?: boolean; columns?: number }, env: NodeJS.ProcessEnv): string {
  let text = ''
  const stream = {
    ...terminal,
    write(chunk: string | Uint8Array) {
      text += chunk
      return true
    },
  }
  const { onProgress, end } = showProgress(stream, env)
  for (const step of STEPS) onProgress(step)
  end()
  return text
}

test('a bar that is redrawn in place on a terminal, and wiped at the end', () => {
  const text = shown({ isTTY: true, columns: 120 }, {})
  expect(text).toContain(`\r\x1b[KExtracting demo-1.0 [######..................]  25 % of 100 MB`)
  expect(text).not.toContain('\n')
  expect(text.endsWith('\r\x1b[K')).toBe(true)
})

test('a narrow terminal gets no second line', () => {
  for (const line of shown({ isTTY: true, columns: 20 }, {}).split('\r\x1b[K'))
    expect(line.length).toBeLessThan(20)
})

test.for([
  [{}, {}],
  [{ isTTY: true }, { CI: 'true' }],
  [{ isTTY: true }, { TERM: 'dumb' }],
] as const)('one plain line for a long step elsewhere: %j %j', ([terminal, env]) => {
  expect(shown(terminal, env)).toBe(`Downloading ${FILE} (50 MB)\n`)
})

test('no colours anywhere', () => {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape sequence of colours
  expect(shown({ isTTY: true }, {})).not.toMatch(/\x1b\[[\d;]*m/)
})
