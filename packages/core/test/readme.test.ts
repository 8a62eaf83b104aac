// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { runModule } from './child'

const cpu = fileURLToPath(new URL('../../cpu/', import.meta.url))
const readme = readFileSync(fileURLToPath(new URL('../README.md', import.meta.url)), 'utf8')

it.skipIf(!existsSync(`${cpu}build/Release/vllm_ops_cpu.so`))('the example of the README runs', async () => {
  const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(readme) ?? []
  expect(example.split('\n').length).toBeGreaterThan(5)
  // The backend depends on this package, not the other way round: its built file stands for its name.
  const outcome = await runModule(example.replace("'@vllm-ops/cpu'", JSON.stringify(`${cpu}dist/index.js`)))
  expect(outcome).toMatchObject({ code: 0, stderr: '' })
  expect(outcome.stdout).toContain('bfloat16[4, 64]')
})
