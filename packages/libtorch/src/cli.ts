// SPDX-License-Identifier: Apache-2.0
// For builds: CMake and the repository's scripts ask it where libtorch is. `setup` fetches it first where it is missing.
import { parseArgs } from 'node:util'
import { LibtorchError } from './errors'
import { findLibtorch, type Libtorch } from './find'
import { showProgress } from './progress'
import { setupLibtorch } from './setup'

const USAGE = 'usage: cli.js [setup] [--json]\n'

function main(): Promise<number> | number {
  const options = readArguments()
  if (options) return run(options)
  process.stderr.write(USAGE)
  return 2
}

interface CliOptions {
  readonly setup: boolean
  readonly json: boolean
}

function readArguments(): CliOptions | undefined {
  try {
    const { values, positionals } = parseArgs({
      options: { json: { type: 'boolean' } },
      allowPositionals: true,
    })
    if (positionals.length > 1 || (positionals[0] ?? 'setup') !== 'setup') return undefined
    return { setup: positionals.length > 0, json: values.json === true }
  } catch {
    return undefined
  }
}

/** Prints where libtorch is, and returns the exit code. */
async function run({ setup, json }: CliOptions): Promise<number> {
  try {
    const libtorch = setup ? await fetchLibtorch() : findLibtorch()
    process.stdout.write(`${json ? JSON.stringify(libtorch, null, 2) : libtorch.root}\n`)
    return 0
  } catch (error) {
    if (!(error instanceof LibtorchError)) throw error
    process.stderr.write(`${error.code}: ${error.message}\n${error.fix}\n`)
    return 1
  }
}

/** An interrupted fetch removes what it has left so far before the process ends. */
async function fetchLibtorch(): Promise<Libtorch> {
  const interrupted = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(name))
  const { onProgress, end } = showProgress()
  try {
    return await setupLibtorch({ onProgress, signal: interrupted.signal })
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
