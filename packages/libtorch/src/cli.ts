// SPDX-License-Identifier: Apache-2.0
import { parseArgs } from 'node:util'
import { LibtorchError } from './errors'
import { findLibtorch } from './find'

const { values } = parseArgs({ options: { json: { type: 'boolean' } } })
try {
  const libtorch = findLibtorch()
  process.stdout.write(values.json ? `${JSON.stringify(libtorch, null, 2)}\n` : `${libtorch.root}\n`)
} catch (error) {
  if (!(error instanceof LibtorchError)) throw error
  process.stderr.write(`${error.code}: ${error.message}\n${error.fix}\n`)
  process.exitCode = 1
}
