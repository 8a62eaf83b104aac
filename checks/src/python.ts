// SPDX-License-Identifier: Apache-2.0
import { existsSync, writeFileSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheRoot, TORCH_VERSION } from '@vllm-ops/libtorch'
import { type OptionInfo, type Options, say } from './check'
import { endOf, runProgram } from './child'

/** The option of checks that need PyTorch in Python. */
export const pythonOption: OptionInfo = {
  name: 'python',
  value: 'PATH',
  help: `a Python with torch ${TORCH_VERSION}; one is set up in the cache otherwise (5 GB)`,
}

/** The Python with torch that was asked for, or else one in the cache, by the user's own pip; it gets its name when it is complete. */
export async function pythonOf({ python: asked }: Options): Promise<string> {
  if (asked) return asked
  const folder = join(cacheRoot(process.env), 'checks', `python-torch-${TORCH_VERSION}`)
  const ready = join(folder, 'complete')
  const python = join(folder, 'bin/python')
  if (existsSync(ready)) return python
  say(`setting up Python with torch ${TORCH_VERSION} in ${folder}`)
  await rm(folder, { recursive: true, force: true })
  await step(process.env.PYTHON || 'python3', ['-m', 'venv', folder])
  const packages = [`torch==${TORCH_VERSION}`, 'numpy', 'expecttest']
  await step(python, ['-m', 'pip', 'install', '--quiet', ...packages])
  writeFileSync(`${ready}.new`, '')
  await rename(`${ready}.new`, ready)
  return python
}

async function step(command: string, args: readonly string[]): Promise<void> {
  const outcome = await runProgram(command, args)
  if (outcome.code !== 0) throw new Error(`torch ${TORCH_VERSION} does not install: ${endOf(outcome)}`)
}
