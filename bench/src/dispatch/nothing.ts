// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('..', import.meta.url))
const build = fileURLToPath(new URL('../.cache/nothing', import.meta.url))

/** The library of ops that do nothing; built if it is not there or has changed (about 15 s). */
export function nothingLibrary(): string {
  const cmake = (...args: string[]) => execFileSync('cmake', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  cmake('-S', folder, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '--log-level=WARNING')
  cmake('--build', build)
  return `${build}/nothing.so`
}
