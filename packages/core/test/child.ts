// SPDX-License-Identifier: Apache-2.0
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** What became of a process. */
export interface Outcome {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a module's text by another Node, which sees the built package. What could end a process, or needs one to itself. */
export function runModule(text: string, { args = [] as string[], cwd = '..' } = {}): Promise<Outcome> {
  const child = spawn(process.execPath, [...args, '--input-type=module', '--eval', text], {
    cwd: fileURLToPath(new URL(cwd, import.meta.url)),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (text) => {
      output[name] += text
    })
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve({ code, signal, ...output }))
  })
}

/** What the module printed last, as JSON, once it ended well. */
export async function resultOf<T>(text: string, options?: Parameters<typeof runModule>[1]): Promise<T> {
  const outcome = await runModule(text, options)
  if (outcome.code !== 0)
    throw new Error(`exit ${outcome.code ?? outcome.signal}: ${outcome.stderr || outcome.stdout}`)
  return JSON.parse(outcome.stdout.trim().split('\n').at(-1)!) as T
}
