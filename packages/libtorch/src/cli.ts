// SPDX-License-Identifier: Apache-2.0
// For builds: CMake and the repository's scripts ask it where libtorch is. `setup` fetches it first where it is missing.
import { parseArgs } from 'node:util'
import { LibtorchError } from './errors'
import { findLibtorch } from './find'
import { showProgress } from './progress'
import { setupLibtorch } from './setup'

const { values, positionals } = parseArgs({ options: { json: { type: 'boolean' } }, allowPositionals: true })
const interrupted = new AbortController()
const progress = showProgress()

async function find() {
  if (positionals.length === 0) return findLibtorch()
  if (positionals.length > 1 || positionals[0] !== 'setup')
    throw new TypeError('usage: cli.js [setup] [--json]')
  // An interrupted fetch removes what it has left so far.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupted.abort(name))
  return await setupLibtorch({ onProgress: progress.onProgress, signal: interrupted.signal })
}

find()
  .finally(() => progress.end())
  .then(
    (libtorch) => {
      process.stdout.write(values.json ? `${JSON.stringify(libtorch, null, 2)}\n` : `${libtorch.root}\n`)
    },
    (error: unknown) => {
      const { aborted, reason } = interrupted.signal
      process.exitCode = !aborted ? 1 : reason === 'SIGINT' ? 130 : 143
      if (error instanceof LibtorchError)
        process.stderr.write(`${error.code}: ${error.message}\n${error.fix}\n`)
      else if (!aborted) throw error
    },
  )
