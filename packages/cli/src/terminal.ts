// SPDX-License-Identifier: Apache-2.0
import { styleText } from 'node:util'
import { ExitCode } from './exit-code'

type Format = Parameters<typeof styleText>[0]

/** Whether `stream` is a terminal that shows colours, and the user has not asked for none (`NO_COLOR`). */
export function hasColor(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb'
}

/** Text for `stream` in an ANSI style where it has colours. */
export function styled(format: Format, text: string, stream: NodeJS.WriteStream = process.stderr): string {
  return hasColor(stream) ? styleText(format, text, { validateStream: false }) : text
}

/** Columns of the terminal that stdout is; undefined for a file or a pipe, where lines may be as long as they need. */
export function outputWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns || 80 : undefined
}

/** Prints a line for a person on stderr: stdout holds what was asked for, and no talk. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

/** Prints `value` as the whole output of a command. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}

/** Ends the process quietly when the reader of its output goes away, as `head` does. */
export function endOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(ExitCode.brokenPipe)
      throw error
    })
  }
}
