// SPDX-License-Identifier: Apache-2.0
// node ../../csrc-common/build.mjs, in a kernel package: configures CMake into build/ and builds what has changed.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'

/** Runs a command with its output on ours; ends with its exit code when it fails. */
function run(command, args) {
  const { status, error } = spawnSync(command, args, { stdio: 'inherit' })
  if (error) {
    const missing = error.code === 'ENOENT'
    console.error(missing ? `${command} is not installed: install it (apt install cmake, brew install cmake)` : error.message)
    process.exit(1)
  }
  if (status !== 0) process.exit(status ?? 1)
}

const hasNinja = spawnSync('ninja', ['--version'], { stdio: 'ignore' }).status === 0
// The generator of an existing build folder stays as it is.
const generator = hasNinja && !existsSync('build/CMakeCache.txt') ? ['-G', 'Ninja'] : []
run('cmake', ['-S', '.', '-B', 'build', '-DCMAKE_BUILD_TYPE=Release', '--log-level=WARNING', ...generator])
// Several compilers at once, unless the environment says how many: each takes up to 1 GB.
const parallel = process.env.CMAKE_BUILD_PARALLEL_LEVEL ? [] : ['--parallel', String(Math.min(availableParallelism(), 8))]
run('cmake', ['--build', 'build', ...parallel])
