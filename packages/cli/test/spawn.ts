// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The program as users start it. */
export const BIN = fileURLToPath(new URL('../bin/vllm-ops.js', import.meta.url))

export interface Finished {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface SpawnOptions {
  /** Changes to the environment; undefined removes a variable. */
  env?: Record<string, string | undefined>
  /** Called with the running process. */
  onStart?: (child: ChildProcess) => void
}

/** Runs `vllm-ops` to its end, with pipes for stdout and stderr and nothing on stdin. */
export async function vllmOps(args: readonly string[], options: SpawnOptions = {}): Promise<Finished> {
  return await finish([process.execPath, BIN, ...args], options)
}

/**
 * Runs a command to its end. What this process's environment says about colours and debugging is not passed on. One
 * thread within an op: several programs run at once, and two threads that wait for each other on a busy machine are
 * much slower than one.
 */
export function finish(
  [file, ...args]: readonly string[],
  { env = {}, onStart }: SpawnOptions = {},
): Promise<Finished> {
  const neutral = {
    NO_COLOR: undefined,
    FORCE_COLOR: undefined,
    CI: undefined,
    VLLM_OPS_DEBUG: undefined,
    OMP_NUM_THREADS: '1',
  }
  return new Promise((resolve, reject) => {
    const child = spawn(file!, args, {
      env: { ...process.env, ...neutral, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
    onStart?.(child)
  })
}
