// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = new URL('../../../', import.meta.url)

test('the TypeScript example of the README runs as it stands', () => {
  const readme = readFileSync(new URL('README.md', root), 'utf8')
  const blocks = [...readme.matchAll(/```ts\n(.*?)```/gs)].map((match) => match[1]!)
  expect(blocks).toHaveLength(1)
  // The example has no type annotations, so that it is JavaScript too; package names resolve from this package.
  const output = execFileSync(process.execPath, ['--input-type=module', '-'], {
    cwd: fileURLToPath(new URL('../', import.meta.url)),
    input: blocks[0],
    encoding: 'utf8',
  })
  expect(output).toContain('bfloat16[4, 2]')
  expect(output).toMatch(/vllm_ops::silu_and_mul.*bfloat16\[4, 4096\].*bfloat16\[4, 8192\]/)
  expect(output).toMatch(/aten::mm/)
})
