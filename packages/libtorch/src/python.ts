// SPDX-License-Identifier: Apache-2.0
import { LibtorchError } from './errors'
import { installCommand } from './host-packages.mjs'

/** The user's Python: `PYTHON` where it is set, else `python3`. */
export function pythonCommand(env: NodeJS.ProcessEnv): string {
  return env.PYTHON || 'python3'
}

/** For an interpreter that could not be started. */
export function pythonMissing(python: string, cause: Error, env: NodeJS.ProcessEnv): LibtorchError {
  return new LibtorchError(
    'E_PYTHON_MISSING',
    `Python can't be started: ${cause.message}${env.PYTHON ? ` (PYTHON is ${python})` : ''}.`,
    env.PYTHON ? 'Use the python3 of your PATH: unset PYTHON' : `Install Python 3 with pip${command('pip')}`,
    { cause },
  )
}

/** For an interpreter without pip. */
export function pipMissing(python: string): LibtorchError {
  return new LibtorchError(
    'E_PIP_MISSING',
    `${python} has no pip, which fetches the pinned files.`,
    `Install it${installCommand('pip') ? command('pip') : `: ${python} -m ensurepip`}`,
  )
}

function command(what: 'pip'): string {
  const line = installCommand(what)
  return line ? `: ${line}` : ''
}
