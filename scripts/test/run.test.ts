// SPDX-License-Identifier: Apache-2.0
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test, vi } from 'vitest'
import { quietly, toolEnv } from '../tools.mjs'

const RUN = fileURLToPath(new URL('../run.mjs', import.meta.url))

test.for([[], ['no-such-command']])('%j: usage on stderr, exit code 2', (args) => {
  const { status, stdout, stderr } = spawnSync(process.execPath, [RUN, ...args], { encoding: 'utf8' })
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(/^usage: node scripts\/run.mjs demo\|test\|bench\|check\|build\|lint/)
})

test("a tool's output is shown when it fails, and only then", async () => {
  let shown = ''
  const write = vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    shown += chunk
    return true
  })
  try {
    await quietly('sh', ['-c', 'echo fine'], 'Trying', process.env)
    expect(shown).toBe('')
    const failing = quietly('sh', ['-c', 'echo why; echo more >&2; exit 3'], 'Trying', process.env)
    await expect(failing).rejects.toMatchObject({ message: 'Trying failed.', exitCode: 3 })
    expect(shown).toMatch(/^(why\nmore|more\nwhy)\n$/)
  } finally {
    write.mockRestore()
  }
})

test('a tool that is not there fails like one that fails', async () => {
  await expect(quietly('/nowhere/tool', [], 'Trying', process.env)).rejects.toMatchObject({ exitCode: 127 })
})

test('tools write to the cache folder and to nothing else', () => {
  const {
    npm_config_cache,
    pnpm_config_cache_dir,
    PNPM_HOME,
    XDG_DATA_HOME,
    XDG_STATE_HOME,
    TURBO_CONFIG_DIR_PATH,
  } = toolEnv({
    XDG_CACHE_HOME: '/caches',
  })
  for (const path of [
    npm_config_cache,
    pnpm_config_cache_dir,
    PNPM_HOME,
    XDG_DATA_HOME,
    XDG_STATE_HOME,
    TURBO_CONFIG_DIR_PATH,
  ])
    expect(path).toMatch(/^\/caches\/vllm-ops\//)
})
