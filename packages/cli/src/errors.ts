// SPDX-License-Identifier: Apache-2.0
import { constants } from 'node:os'
import { ExitCode } from './exit-code'
import { styled } from './terminal'

/** A failure of a command: what happened, a stable code, what to do. */
export class CliError extends Error {
  override readonly name: string = 'CliError'
  constructor(
    readonly code: string,
    message: string,
    /** One sentence, with the command where one mends it. */
    readonly fix: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

/** A wrong command line. */
export class UsageError extends CliError {
  override readonly name = 'UsageError'
  /** @param command the subcommand that was called, or nothing */
  constructor(message: string, command = '') {
    super('E_USAGE', message, `See vllm-ops ${command}${command && ' '}--help`)
  }
}

/** A signal ended the command. Whoever sent it knows, so nothing is said. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted'
  readonly exitCode: number
  constructor(signal: NodeJS.Signals, options?: ErrorOptions) {
    super(`ended by ${signal}`, options)
    this.exitCode = signalExitCode(signal)
  }
}

/** What a shell reports for a process that a signal ended. */
export function signalExitCode(signal: NodeJS.Signals): number {
  return 128 + constants.signals[signal]
}

/**
 * Says on stderr what happened and what to do, and returns the exit code. The stack is for those who set
 * `VLLM_OPS_DEBUG=1`.
 */
export function report(error: unknown): number {
  if (process.env.VLLM_OPS_DEBUG === '1') {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  }
  if (error instanceof Interrupted) return error.exitCode
  const { code, message, fix } = explain(error)
  process.stderr.write(`${styled('red', 'error')} ${code}: ${message}\n`)
  if (fix) process.stderr.write(`  ${styled('bold', 'fix')}: ${fix}\n`)
  return error instanceof UsageError ? ExitCode.usage : ExitCode.failure
}

/** Code, what and what to do: of our packages' errors and of Node's system calls as they are, of others by their message. */
export function explain(error: unknown): { code: string; message: string; fix: string | undefined } {
  if (!(error instanceof Error)) return { ...UNEXPECTED, message: String(error) }
  const message = error.message.trim().replace(/\s*\n\s*/g, ' ')
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (!/^E[A-Z_]/.test(code)) return { ...UNEXPECTED, message }
  return { code, message, fix: 'fix' in error && typeof error.fix === 'string' ? error.fix : undefined }
}

const UNEXPECTED = { code: 'E_INTERNAL', fix: 'This is a bug; VLLM_OPS_DEBUG=1 shows where it happened' }
