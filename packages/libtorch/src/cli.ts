// SPDX-License-Identifier: Apache-2.0
// For builds: CMake and the repository's scripts ask it where libtorch is, or with --cuda-toolkit the CUDA toolkit. `setup` fetches it
// first where it is missing.
import { parseArgs } from 'node:util'
import { type CudaToolkit, findCudaToolkit, setupCudaToolkit } from './cuda-toolkit'
import { LibtorchError } from './errors'
import type { FetchOptions } from './fetch'
import { findLibtorch, type Libtorch } from './find'
import { showProgress } from './progress'
import { setupLibtorch } from './setup'

const USAGE = 'usage: cli.js [setup] [--cuda-toolkit] [--json]\n'

function main(): Promise<number> | number {
  const options = readArguments()
  if (options) return run(options)
  process.stderr.write(USAGE)
  return 2
}

interface CliOptions {
  readonly setup: boolean
  readonly cudaToolkit: boolean
  readonly json: boolean
}

function readArguments(): CliOptions | undefined {
  try {
    const { values, positionals } = parseArgs({
      options: { json: { type: 'boolean' }, 'cuda-toolkit': { type: 'boolean' } },
      allowPositionals: true,
    })
    if (positionals.length > 1 || (positionals[0] ?? 'setup') !== 'setup') return undefined
    return {
      setup: positionals.length > 0,
      cudaToolkit: values['cuda-toolkit'] === true,
      json: values.json === true,
    }
  } catch {
    return undefined
  }
}

/** Prints where libtorch or the toolkit is, and returns the exit code. */
async function run({ setup, cudaToolkit, json }: CliOptions): Promise<number> {
  const [find, fetch] = cudaToolkit ? [findCudaToolkit, setupCudaToolkit] : [findLibtorch, setupLibtorch]
  try {
    const found = setup ? await interruptible(fetch) : find()
    process.stdout.write(`${json ? JSON.stringify(found, null, 2) : found.root}\n`)
    return 0
  } catch (error) {
    if (!(error instanceof LibtorchError)) throw error
    process.stderr.write(`${error.code}: ${error.message}\n${error.fix}\n`)
    return 1
  }
}

/** An interrupted fetch removes what it has left so far before the process ends. */
async function interruptible(
  setup: (options: FetchOptions) => Promise<Libtorch | CudaToolkit>,
): Promise<Libtorch | CudaToolkit> {
  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(name))
  const { onProgress, end } = showProgress()
  try {
    return await setup({ onProgress, signal: interrupted.signal })
  } catch (error) {
    if (interrupted.signal.aborted) process.exit(interrupted.signal.reason === 'SIGINT' ? 130 : 143)
    throw error
  } finally {
    end()
  }
}

Promise.resolve(main()).then((exitCode) => {
  process.exitCode = exitCode
})
